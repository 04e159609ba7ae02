//! `POST /faults`, only with `--fault-injection`: one order per line for [`mesh::Faults::execute`]. The answer is what each line answered.

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use mesh::Faults;
use std::sync::Arc;

pub fn router(faults: Arc<Faults>) -> Router {
    Router::new()
        .route("/faults", post(execute))
        .with_state(faults)
}

/// 400 with the reason at the first line that is no order; those before it hold.
async fn execute(State(faults): State<Arc<Faults>>, body: String) -> (StatusCode, String) {
    let mut answers = String::new();
    for line in body.lines().filter(|line| !line.trim().is_empty()) {
        match faults.execute(line) {
            Ok(answer) => {
                answers.push_str(&answer);
                answers.push('\n');
            }
            Err(error) => return (StatusCode::BAD_REQUEST, format!("{line}: {error}\n")),
        }
    }
    (StatusCode::OK, answers)
}
