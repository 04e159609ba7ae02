//! HTTP: liveness, readiness, metrics, and SQL for tools that do not speak the Postgres protocol.

pub mod faults;

use crate::adapter::error::SqlError;
use crate::adapter::session::{Output, RowSet};
use crate::adapter::{Adapter, SessionStart};
use crate::server::Serving;
use axum::extract::{DefaultBodyLimit, FromRequestParts, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use plan::scalar::catalog_fns::{self, RegKind};
use repr::Datum;
use serde::Deserialize;
use state::NodeStatus;
use std::sync::Arc;
use std::time::Duration;

/// Largest body of POST /sql.
const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;
/// A node that cannot get a read point within this time is not ready.
const READY_WITHIN: Duration = Duration::from_secs(2);

/// The adapter, for requests that need one: 503 while there is none yet.
struct Ready(Arc<Adapter>);

impl FromRequestParts<Serving> for Ready {
    type Rejection = (StatusCode, &'static str);

    async fn from_request_parts(
        _parts: &mut Parts,
        serving: &Serving,
    ) -> Result<Ready, Self::Rejection> {
        let starting = (StatusCode::SERVICE_UNAVAILABLE, "starting\n");
        serving.get().cloned().map(Ready).ok_or(starting)
    }
}

pub(crate) fn router(serving: Serving) -> Router {
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/sql", post(sql))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(serving)
}

/// 200 when strict statements can be served here, and the loss of another node would be survived as far as its CLUSTERs' groups go; 503 otherwise.
async fn readyz(Ready(adapter): Ready) -> Response {
    if *adapter.stopping.borrow() {
        return (StatusCode::SERVICE_UNAVAILABLE, "draining\n").into_response();
    }
    // As somebody has said in SQL: a balancer should send clients elsewhere.
    let state = adapter.env.storage().view();
    let status = state.nodes().get(&adapter.env.node()).map(|n| n.status);
    match status {
        Some(NodeStatus::Draining | NodeStatus::Removed) => {
            return (StatusCode::SERVICE_UNAVAILABLE, "draining\n").into_response();
        }
        Some(NodeStatus::Active) | None => drop(state),
    }
    if !adapter.clusters.are_formed() {
        let forming = "not ready: the groups of clusters are being formed\n";
        return (StatusCode::SERVICE_UNAVAILABLE, forming).into_response();
    }
    match tokio::time::timeout(READY_WITHIN, adapter.read_points.join()).await {
        Ok(Ok(_)) => (StatusCode::OK, "ready\n").into_response(),
        Ok(Err(error)) => (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("not ready: {error}\n"),
        )
            .into_response(),
        Err(_) => (
            StatusCode::SERVICE_UNAVAILABLE,
            "not ready: no read point within 2 s\n",
        )
            .into_response(),
    }
}

async fn metrics(State(serving): State<Serving>) -> Response {
    if let Some(adapter) = serving.get() {
        adapter.clusters.report();
        mesh::metrics::publish(&adapter.env.transport().stats());
    }
    (
        [("content-type", "text/plain; version=0.0.4")],
        host::metrics::render(),
    )
        .into_response()
}

#[derive(Deserialize)]
struct SqlRequest {
    query: String,
    #[serde(default = "default_user")]
    user: String,
    database: Option<String>,
}

fn default_user() -> String {
    "clusterd".to_owned()
}

/// Runs the statements of `query` in a session of their own: `{"results": [{"tag", "columns", "rows"}]}`, values as text.
async fn sql(Ready(adapter): Ready, Json(request): Json<SqlRequest>) -> Response {
    let start = SessionStart {
        user: request.user,
        database: request.database,
        settings: vec![],
    };
    match adapter.sql(start, &request.query).await {
        Ok(outputs) => {
            let results: Vec<_> = outputs.into_iter().map(result).collect();
            Json(serde_json::json!({ "results": results })).into_response()
        }
        Err(error) => (StatusCode::BAD_REQUEST, Json(error_body(&error))).into_response(),
    }
}

fn result(output: Output) -> serde_json::Value {
    match output {
        Output::Complete(tag) => serde_json::json!({ "tag": tag }),
        Output::Empty => serde_json::json!({ "tag": "" }),
        Output::Rows(rows) => rows_body(rows),
        Output::CopyIn(_) | Output::CopyOut(_) | Output::Subscribe(_) => error_body(
            &SqlError::unsupported("COPY and SUBSCRIBE over HTTP", "Use the Postgres protocol."),
        ),
    }
}

fn rows_body(mut rows: RowSet) -> serde_json::Value {
    let (desc, names) = (Arc::clone(&rows.desc), rows.names.clone());
    let context = repr::format::FormatCtx::default();
    let mut values = vec![];
    while let Some(row) = rows.next_row() {
        let cells: Vec<Option<String>> = row
            .iter()
            .zip(&desc.types)
            .map(
                |(datum, column)| match (datum, RegKind::of(&column.ty), &names) {
                    (Datum::Null, _, _) => None,
                    (Datum::Oid(oid), Some(kind), Some(names)) => {
                        Some(catalog_fns::display(&**names, kind, oid))
                    }
                    _ => Some(repr::format::to_text(&column.ty, datum, &context)),
                },
            )
            .collect();
        values.push(cells);
    }
    let columns: Vec<_> = desc
        .columns()
        .map(|(name, column)| serde_json::json!({ "name": name, "type": column.ty.pg_name() }))
        .collect();
    serde_json::json!({ "tag": rows.tag(), "columns": columns, "rows": values })
}

fn error_body(error: &SqlError) -> serde_json::Value {
    serde_json::json!({ "error": {
        "code": error.sqlstate, "message": error.message, "detail": error.detail, "hint": error.hint, "position": error.position,
    } })
}
