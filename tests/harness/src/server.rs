//! One server process under test: start, readiness, signals, restart, output.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use crate::sql::Target;

/// How long a server may take from spawn to ready before a test gives up on it.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// How long a server may take to end after SIGTERM.
const STOP_WITHIN: Duration = Duration::from_secs(30);
/// Pause between two looks at a condition that is awaited with a deadline.
const POLL: Duration = Duration::from_millis(5);

/// Why a server did not become ready.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The process could not be spawned at all.
    #[error("cannot run {binary}: {source}")]
    Spawn {
        binary: PathBuf,
        source: std::io::Error,
    },
    /// The process ended by itself before it was ready. `output` holds all it printed.
    #[error("the server ended before it was ready ({status}):\n{output}")]
    Exited { status: ExitStatus, output: String },
    /// The deadline passed while the process was alive.
    #[error("the server was not ready within {waited:?}:\n{output}")]
    NotReady { waited: Duration, output: String },
}

/// The recipe of a server process. Cloned into each [`Server`], so that a restart runs the same thing.
#[derive(Clone, Debug)]
pub struct Launch {
    binary: PathBuf,
    data_dir: PathBuf,
    sql_addr: SocketAddr,
    http_addr: SocketAddr,
    mesh_addr: SocketAddr,
    args: Vec<String>,
    env: Vec<(String, String)>,
    wrapper: Vec<String>,
    ready_within: Duration,
}

impl Launch {
    /// A server of `binary` over `data_dir` on two free loopback ports.
    pub fn new(binary: impl Into<PathBuf>, data_dir: impl Into<PathBuf>) -> Launch {
        Launch {
            binary: binary.into(),
            data_dir: data_dir.into(),
            sql_addr: free_addr(),
            http_addr: free_addr(),
            mesh_addr: SocketAddr::from(([127, 0, 0, 1], 0)),
            args: Vec::new(),
            env: Vec::new(),
            wrapper: Vec::new(),
            ready_within: READY_WITHIN,
        }
    }

    /// Uses this SQL address instead of a free one.
    pub fn sql_addr(mut self, addr: SocketAddr) -> Launch {
        self.sql_addr = addr;
        self
    }

    /// Uses this HTTP address instead of a free one.
    pub fn http_addr(mut self, addr: SocketAddr) -> Launch {
        self.http_addr = addr;
        self
    }

    /// Uses this mesh address instead of any free one.
    pub fn mesh_addr(mut self, addr: SocketAddr) -> Launch {
        self.mesh_addr = addr;
        self
    }

    /// Where other nodes will reach it.
    pub fn mesh_address(&self) -> SocketAddr {
        self.mesh_addr
    }

    /// Adds one command line argument.
    pub fn arg(mut self, arg: impl Into<String>) -> Launch {
        self.args.push(arg.into());
        self
    }

    /// Adds several command line arguments.
    pub fn args(mut self, args: &[&str]) -> Launch {
        self.args.extend(args.iter().map(|arg| (*arg).to_owned()));
        self
    }

    /// Sets one environment variable of the process.
    pub fn env(mut self, name: &str, value: &str) -> Launch {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Runs the server through another program, which must `exec` its arguments (such as `unshare -m sh -c ...`).
    pub fn wrapper(mut self, words: &[&str]) -> Launch {
        self.wrapper = words.iter().map(|w| (*w).to_owned()).collect();
        self
    }

    /// Gives up on readiness after this time.
    pub fn ready_within(mut self, limit: Duration) -> Launch {
        self.ready_within = limit;
        self
    }

    /// The same recipe over another data directory.
    pub fn over(mut self, data_dir: impl Into<PathBuf>) -> Launch {
        self.data_dir = data_dir.into();
        self
    }

    /// Spawns the process without waiting for anything.
    pub fn spawn(&self) -> Result<Server, StartError> {
        let mut words = self.wrapper.clone();
        words.push(self.binary.display().to_string());
        words.extend(["--data-dir".to_owned(), self.data_dir.display().to_string()]);
        words.extend(["--sql-addr".to_owned(), self.sql_addr.to_string()]);
        words.extend(["--http-addr".to_owned(), self.http_addr.to_string()]);
        words.extend(["--mesh-addr".to_owned(), self.mesh_addr.to_string()]);
        words.extend(self.args.iter().cloned());
        let mut command = Command::new(&words[0]);
        command
            .args(&words[1..])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command.envs(self.env.iter().map(|(k, v)| (k, v)));
        let mut child = command.spawn().map_err(|source| StartError::Spawn {
            binary: self.binary.clone(),
            source,
        })?;
        let output = Arc::new(Output::default());
        collect(child.stdout.take(), &output);
        collect(child.stderr.take(), &output);
        Ok(Server {
            launch: self.clone(),
            child,
            output,
        })
    }

    /// Spawns the process and waits until `/readyz` answers 200.
    pub fn start(&self) -> Result<Server, StartError> {
        let mut server = self.spawn()?;
        server.wait_ready()?;
        Ok(server)
    }
}

/// A running (or ended) server process. Dropping it kills the process.
pub struct Server {
    launch: Launch,
    child: Child,
    output: Arc<Output>,
}

impl Server {
    /// Waits until `/readyz` answers 200, or says why that will not come.
    pub fn wait_ready(&mut self) -> Result<(), StartError> {
        self.wait_ready_within(self.launch.ready_within)
    }

    /// Like [`Server::wait_ready`] with a limit of its own.
    pub fn wait_ready_within(&mut self, within: Duration) -> Result<(), StartError> {
        let started = Instant::now();
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(StartError::Exited {
                    status,
                    output: self.settled_output(),
                });
            }
            if matches!(http_get(self.launch.http_addr, "/readyz"), Ok((200, _))) {
                return Ok(());
            }
            if started.elapsed() > within {
                return Err(StartError::NotReady {
                    waited: started.elapsed(),
                    output: self.output(),
                });
            }
            std::thread::sleep(POLL);
        }
    }

    /// SIGKILL, then reaps the process.
    pub fn kill9(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// SIGTERM, then waits for the end; `None` when the process outlived the deadline (it is killed then).
    pub fn terminate(&mut self) -> Option<ExitStatus> {
        self.signal(libc::SIGTERM);
        let status = self.wait_exit(STOP_WITHIN);
        if status.is_none() {
            self.kill9();
        }
        status
    }

    /// Waits for the process to end by itself.
    pub fn wait_exit(&mut self, within: Duration) -> Option<ExitStatus> {
        let started = Instant::now();
        while started.elapsed() < within {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Some(status);
            }
            std::thread::sleep(POLL);
        }
        None
    }

    /// Sends a signal to the process.
    pub fn signal(&self, signal: libc::c_int) {
        // SAFETY: kill(2) takes plain integers; the pid is that of our own child, which has not been reaped while `self.child` lives unwaited.
        unsafe { libc::kill(self.pid() as libc::pid_t, signal) };
    }

    /// Starts the same recipe again; the old process must have ended or is killed now.
    pub fn restart(&mut self) -> Result<(), StartError> {
        self.kill9();
        let fresh = self.launch.start()?;
        *self = fresh;
        Ok(())
    }

    /// Starts the same recipe as a process of its own, without waiting for anything; this one must have ended.
    pub fn spawn_again(&self) -> Result<Server, StartError> {
        self.launch.spawn()
    }

    /// Whether the process is still running.
    pub fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Whether an exit status is that of SIGKILL.
    pub fn was_killed(status: ExitStatus) -> bool {
        status.signal() == Some(libc::SIGKILL)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The arguments that were added to its recipe.
    pub fn launch_args(&self) -> &[String] {
        &self.launch.args
    }

    pub fn data_dir(&self) -> &Path {
        &self.launch.data_dir
    }

    pub fn sql_addr(&self) -> SocketAddr {
        self.launch.sql_addr
    }

    pub fn http_addr(&self) -> SocketAddr {
        self.launch.http_addr
    }

    /// Where SQL clients find this server.
    pub fn target(&self) -> Target {
        Target::clusterd(self.launch.sql_addr)
    }

    /// All lines printed so far, stdout and stderr in order of arrival.
    pub fn output(&self) -> String {
        self.output.text.lock().expect("output lock").0.clone()
    }

    /// The last lines printed, for a failure report.
    pub fn output_end(&self) -> String {
        const SHOWN: usize = 4000;
        let output = self.output();
        let start = output
            .char_indices()
            .rev()
            .nth(SHOWN)
            .map_or(0, |(at, _)| at);
        output[start..].to_owned()
    }

    /// Waits until the output holds `needle`, or the deadline passes; says whether it came.
    pub fn wait_output(&self, needle: &str, within: Duration) -> bool {
        let started = Instant::now();
        let mut guard = self.output.text.lock().expect("output lock");
        while !guard.0.contains(needle) {
            let Some(left) = within.checked_sub(started.elapsed()) else {
                return false;
            };
            guard = self
                .output
                .changed
                .wait_timeout(guard, left)
                .expect("output lock")
                .0;
        }
        true
    }

    /// One GET on the HTTP port: status and body.
    pub fn http(&self, path: &str) -> std::io::Result<(u16, String)> {
        http_get(self.launch.http_addr, path)
    }

    /// The samples of `/metrics`: name with labels, as printed, to value.
    pub fn metrics(&self) -> std::io::Result<BTreeMap<String, f64>> {
        let (_, body) = self.http("/metrics")?;
        let samples = body
            .lines()
            .filter(|l| !l.starts_with('#'))
            .filter_map(|l| l.rsplit_once(' '));
        Ok(samples
            .filter_map(|(name, value)| Some((name.trim().to_owned(), value.parse().ok()?)))
            .collect())
    }

    /// Resident memory of the process in bytes.
    pub fn resident_bytes(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).ok()?;
        let line = status.lines().find(|l| l.starts_with("VmRSS:"))?;
        Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
    }

    /// The output of a process that has ended: waits until both pipes are at their end.
    fn settled_output(&self) -> String {
        let started = Instant::now();
        let mut guard = self.output.text.lock().expect("output lock");
        while guard.1 < 2 && started.elapsed() < Duration::from_secs(5) {
            guard = self
                .output
                .changed
                .wait_timeout(guard, Duration::from_millis(100))
                .expect("output lock")
                .0;
        }
        guard.0.clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill9();
    }
}

/// Everything a process printed, and how many of its two pipes have ended.
#[derive(Default)]
struct Output {
    text: Mutex<(String, usize)>,
    changed: Condvar,
}

fn collect(pipe: Option<impl Read + Send + 'static>, output: &Arc<Output>) {
    let Some(pipe) = pipe else { return };
    let output = Arc::clone(output);
    std::thread::spawn(move || {
        let mut reader = BufReader::new(pipe);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
            output
                .text
                .lock()
                .expect("output lock")
                .0
                .push_str(&String::from_utf8_lossy(&line));
            output.changed.notify_all();
            line.clear();
        }
        output.text.lock().expect("output lock").1 += 1;
        output.changed.notify_all();
    });
}

/// A loopback address nobody listens on. Ports come from below the range of outgoing connections, which could take them at any time.
pub fn free_addr() -> SocketAddr {
    const FIRST: u16 = 12_000;
    const COUNT: u16 = 18_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Test processes that run side by side begin at different places.
    let offset = (std::process::id().wrapping_mul(7919) % u32::from(COUNT)) as u16;
    for _ in 0..COUNT {
        let step = NEXT.fetch_add(1, Ordering::Relaxed) % COUNT;
        let addr = SocketAddr::from(([127, 0, 0, 1], FIRST + (offset + step) % COUNT));
        if TcpListener::bind(addr).is_ok() {
            return addr;
        }
    }
    panic!(
        "no free loopback port between {FIRST} and {}",
        FIRST + COUNT
    );
}

/// A minimal HTTP/1.1 GET: status and body.
pub fn http_get(addr: SocketAddr, path: &str) -> std::io::Result<(u16, String)> {
    http_request(
        addr,
        &format!("GET {path} HTTP/1.1\r\nHost: {addr}\r\nConnection: close\r\n\r\n"),
    )
}

/// A minimal HTTP/1.1 POST of plain text: status and body.
pub fn http_post(addr: SocketAddr, path: &str, body: &str) -> std::io::Result<(u16, String)> {
    post(addr, path, "text/plain", body)
}

/// A minimal HTTP/1.1 POST of a JSON body: status and body.
pub fn http_post_json(addr: SocketAddr, path: &str, body: &str) -> std::io::Result<(u16, String)> {
    post(addr, path, "application/json", body)
}

fn post(addr: SocketAddr, path: &str, kind: &str, body: &str) -> std::io::Result<(u16, String)> {
    let length = body.len();
    http_request(
        addr,
        &format!(
            "POST {path} HTTP/1.1\r\nHost: {addr}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        ),
    )
}

fn http_request(addr: SocketAddr, request: &str) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&addr, Duration::from_secs(2))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(request.as_bytes())?;
    let mut raw = Vec::new();
    stream.read_to_end(&mut raw)?;
    let text = String::from_utf8_lossy(&raw).into_owned();
    let bad = || std::io::Error::other(format!("not an HTTP answer: {text:.200}"));
    let status = text
        .split_whitespace()
        .nth(1)
        .and_then(|s| s.parse().ok())
        .ok_or_else(bad)?;
    let body = text
        .split_once("\r\n\r\n")
        .map(|(_, body)| body.to_owned())
        .unwrap_or_default();
    Ok((status, body))
}
