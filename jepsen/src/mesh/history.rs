//! What every client asked and was answered, in the order in which it happened, and its judge.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use adya::{History, Opts, Valid, Workload};
use anyhow::{Result, bail, ensure};
use serde_json::{Value, json};

/// Longest search for a cycle in one component of the graph.
const SEARCH_MAX: Duration = Duration::from_secs(60);

/// A history under way. One lock orders it, so that real time can be judged.
#[derive(Default)]
pub struct Recorder {
    events: Mutex<Vec<Value>>,
    processes: AtomicU64,
}

/// How an operation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Ok,
    /// It certainly did not happen.
    Fail,
    /// It may have happened, or may happen yet.
    Info,
}

impl Recorder {
    /// A process is a sequence of operations; one that does not know how its last one ended, ends.
    pub fn process(&self) -> u64 {
        self.processes.fetch_add(1, Ordering::Relaxed)
    }

    pub fn invoke(&self, process: u64, operation: &Value) {
        self.push("invoke", process, operation);
    }

    /// The end of an operation, and the process that goes on.
    pub fn complete(&self, process: u64, end: End, operation: &Value) -> u64 {
        match end {
            End::Ok => self.push("ok", process, operation),
            End::Fail => self.push("fail", process, operation),
            End::Info => {
                self.push("info", process, operation);
                return self.process();
            }
        }
        process
    }

    fn push(&self, kind: &str, process: u64, operation: &Value) {
        let mut events = self.events.lock().expect("events");
        let index = events.len();
        events.push(json!({"index": index, "type": kind, "process": process, "value": operation}));
    }

    /// Strict serializability of the whole history, which is written to `file` if that does not hold.
    ///
    /// # Errors
    /// With every contradiction in words.
    pub fn check(&self, workload: Workload, file: &Path) -> Result<String> {
        let events = self.events.lock().expect("events");
        let lines: Vec<String> = events.iter().map(Value::to_string).collect();
        let text = lines.join("\n");
        let history = History::from_json(&text)?;
        let options = Opts {
            timeout: SEARCH_MAX,
            linearizable_keys: workload == Workload::RwRegister,
            ..Opts::default()
        };
        let report = adya::check(&history, workload, &options);
        let ended = |kind: &str| events.iter().filter(|e| e["type"] == kind).count();
        let (ok, fail, info) = (ended("ok"), ended("fail"), ended("info"));
        if report.valid == Valid::True {
            ensure!(ok > 0, "nothing was done: the history shows nothing");
            return Ok(format!("{ok} ok, {fail} failed, {info} unknown"));
        }
        std::fs::write(file, &text)?;
        let found = report.anomalies.values().flatten();
        let shown: Vec<&str> = found.take(5).map(|a| a.explanation.as_str()).collect();
        bail!(
            "not strict serializable: {}; the history is in {}\n{}",
            report.anomaly_types.join(", "),
            file.display(),
            shown.join("\n")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn append_then_read(read: Value) -> Result<String> {
        let recorder = Recorder::default();
        let (writer, reader) = (recorder.process(), recorder.process());
        recorder.invoke(writer, &json!([["append", 1, 7]]));
        recorder.complete(writer, End::Ok, &json!([["append", 1, 7]]));
        recorder.invoke(reader, &json!([["r", 1, null]]));
        recorder.complete(reader, End::Ok, &json!([["r", 1, read]]));
        recorder.invoke(reader, &json!([["r", 1, null]]));
        recorder.complete(reader, End::Ok, &json!([["r", 1, [7]]]));
        let dir = tempfile::tempdir()?;
        recorder.check(Workload::ListAppend, &dir.path().join("history"))
    }

    #[test]
    fn stale_read_of_another_client_is_found() {
        assert!(append_then_read(json!([7])).is_ok());
        let stale = append_then_read(json!([])).expect_err("a stale read");
        assert!(stale.to_string().contains("realtime"), "{stale}");
    }

    #[test]
    fn lost_register_write_is_found() {
        let judge = |last: u64| {
            let recorder = Recorder::default();
            let process = recorder.process();
            for operation in [
                json!([["w", 1, 1]]),
                json!([["w", 1, 2]]),
                json!([["r", 1, last]]),
            ] {
                recorder.invoke(process, &operation);
                recorder.complete(process, End::Ok, &operation);
            }
            let dir = tempfile::tempdir().expect("a directory");
            recorder.check(Workload::RwRegister, &dir.path().join("history"))
        };
        assert!(judge(2).is_ok());
        assert!(judge(1).is_err());
    }
}
