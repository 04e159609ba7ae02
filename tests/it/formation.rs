//! How several processes become one environment, how later ones come in, and who is kept out: seen from outside.

use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use harness::mesh::{Mesh, free_udp_addr};
use harness::{Launch, Server};

use crate::node::{binary, column, patient, run};

/// Nothing takes so long when all is well.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs a command of the binary that is not a node.
fn clusterd(args: &[&str]) -> Output {
    let output = Command::new(binary()).args(args).output();
    output.expect("the binary runs")
}

/// What the command prints, which must succeed.
fn printed(args: &[&str]) -> String {
    let output = clusterd(args);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {error}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn join_token(of: &Server, more: &[&str]) -> String {
    let sql_addr = of.sql_addr().to_string();
    printed(&[&["token", "new", "--sql-addr", &sql_addr][..], more].concat())
}

fn joined(addresses: &[SocketAddr]) -> String {
    let addresses: Vec<String> = addresses.iter().map(SocketAddr::to_string).collect();
    addresses.join(",")
}

fn founder(dir: PathBuf, at: SocketAddr, all: &[SocketAddr], expect: usize, token: &str) -> Launch {
    Launch::new(binary(), dir)
        .mesh_addr(at)
        .args(&["--join", &joined(all), "--join-token", token])
        .args(&["--bootstrap-expect", &expect.to_string()])
}

/// A later node.
fn newcomer(dir: PathBuf, to: &[SocketAddr], token: &str) -> Launch {
    Launch::new(binary(), dir)
        .mesh_addr(free_udp_addr())
        .args(&["--join", &joined(to), "--join-token", token])
}

/// Starts a node that must end by itself, with these words.
fn refused(launch: &Launch, words: &str) {
    ends(&mut launch.spawn().expect("a process"), words);
}

fn ends(server: &mut Server, words: &str) {
    let status = server.wait_exit(PATIENCE);
    let output = server.output();
    assert!(status.is_some_and(|status| !status.success()), "{output}");
    // The last lines may still be on their way.
    said(server, words);
}

fn said(server: &Server, words: &str) {
    assert!(
        server.wait_output(words, PATIENCE),
        "no {words:?} in\n{}",
        server.output()
    );
}

#[test]
fn the_same_line_on_three_nodes_is_one_environment() {
    run(async {
        let dir = tempfile::tempdir().expect("a directory");
        let token = printed(&["token", "new"]);
        let all = [free_udp_addr(), free_udp_addr(), free_udp_addr()];
        let launch = |n: usize| founder(dir.path().join(format!("n{n}")), all[n], &all, 3, &token);
        let mut first = launch(0).spawn().expect("a process");
        let mut second = launch(1).spawn().expect("a process");
        said(&first, "waiting for 1 of 3 founders");
        // There is nothing to ask yet, and clients hear so at once.
        let early = first.target().connect().await;
        let early = early.err().expect("it does not serve yet");
        assert_eq!(harness::sqlstate(&early), "57P03");
        // A founder that crashes is the same one when it is back.
        first.kill9();
        let mut first = first.spawn_again().expect("a process");
        let mut third = launch(2).spawn().expect("a process");
        for server in [&mut first, &mut second, &mut third] {
            server
                .wait_ready()
                .unwrap_or_else(|error| panic!("{error}"));
        }
        let one = first.target().connect().await.expect("a session");
        one.run("create table t (a int)").await.expect("a table");
        one.run("insert into t values (7)").await.expect("a row");
        let two = second.target().connect().await.expect("a session");
        assert_eq!(column(&two, "select a from t").await, "7");
        let nodes = "select count(*), count(distinct mesh_addr), min(status) from mz_nodes";
        assert_eq!(column(&two, nodes).await, "3|3|active");
        let listed = printed(&["node", "ls", "--sql-addr", &third.sql_addr().to_string()]);
        assert_eq!(listed.lines().count(), 4, "{listed}");

        // All power fails. Now the directories say who they are, whatever is said on the line.
        for server in [&mut first, &mut second, &mut third] {
            server.kill9();
        }
        let nonsense = |server: &Server, n: usize| {
            Launch::new(binary(), server.data_dir())
                .mesh_addr(all[n])
                .args(&["--join", "127.0.0.1:1", "--join-token", "nonsense"])
        };
        let again = [nonsense(&first, 0), nonsense(&second, 1)];
        let mut again = again.map(|launch| launch.spawn().expect("a process"));
        for server in &mut again {
            server
                .wait_ready()
                .unwrap_or_else(|error| panic!("{error}"));
        }
        let two = again[1].target().connect().await.expect("a session");
        assert_eq!(column(&two, "select a from t").await, "7");
    });
}

#[test]
fn whoever_comes_later_needs_a_token_of_its_own() {
    run(async {
        let dir = tempfile::tempdir().expect("a directory");
        let new = |name: &str| dir.path().join(name);
        let mut mesh = Mesh::form_with(&binary(), dir.path(), 3, patient)
            .await
            .expect("three nodes");
        let (old_token, members) = {
            let args = mesh.node(0).launch_args().to_vec();
            let after = |flag: &str| {
                let at = args.iter().position(|arg| arg == flag).expect("the flag");
                args[at + 1].clone()
            };
            let members = after("--join");
            let members = members.split(',').map(|a| a.parse().expect("an address"));
            (after("--join-token"), members.collect::<Vec<SocketAddr>>())
        };

        // The founders' token is void.
        let fourth = founder(new("fourth"), free_udp_addr(), &members, 3, &old_token);
        refused(&fourth, "the token is void");
        let refusal = "a node with the token of the founders, but none of their keys, was refused";
        said(mesh.node(0), refusal);

        // A token of another environment, and one for this environment at another one.
        let stranger = Launch::new(binary(), new("stranger"))
            .start()
            .expect("a lone node");
        let foreign = join_token(&stranger, &[]);
        refused(
            &newcomer(new("foreign"), &members, &foreign),
            "the token is for another environment",
        );
        said(mesh.node(0), "a node that wants to join refused this one");
        drop(stranger);

        // One that has expired, one that was mistyped.
        let expired = join_token(mesh.node(1), &["--valid-for", "1 millisecond"]);
        refused(
            &newcomer(new("late"), &members, &expired),
            "the join token has expired",
        );
        let refusal = "a node was not let into the environment";
        said_by_one(&mesh, &[refusal, "the join token has expired"]);
        let token = join_token(mesh.node(1), &[]);
        refused(
            &newcomer(new("typo"), &members, &token[..token.len() - 1]),
            "copy it again",
        );

        // One that is good, once. Only a follower is asked: ENV's log decides, wherever its leader is.
        let newcomer_at = newcomer(new("fourth"), &members[2..], &token);
        let mut fourth = newcomer_at
            .start()
            .unwrap_or_else(|error| panic!("{error}"));
        let nodes = async |server: &Server, query: &str| {
            let sql = server.target().connect().await.expect("a session");
            column(&sql, query).await
        };
        let all = "select id from mz_nodes where status = 'active' order by id";
        assert_eq!(nodes(&fourth, all).await, "1 2 3 4");
        refused(
            &newcomer(new("fifth"), &members, &token),
            "the join token was used by n4",
        );
        said_by_one(&mesh, &[refusal, "the join token was used by n4"]);

        // A disk that was emptied is nobody's: with its old token it is refused, with a new one it is a new node.
        fourth.kill9();
        std::fs::remove_dir_all(fourth.data_dir()).expect("an empty disk");
        let mut emptied = fourth.spawn_again().expect("a process");
        ends(&mut emptied, "was used by n4");
        let token = join_token(mesh.node(0), &[]);
        let fifth = newcomer(new("fourth"), &members, &token);
        let fifth = fifth.start().unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(nodes(&fifth, "select max(id) from mz_nodes").await, "5");

        // The directory of another environment at the address of a member is not taken for that member.
        mesh.node_mut(2).kill9();
        let impostor = Launch::new(binary(), new("impostor")).mesh_addr(members[2]);
        let _impostor = impostor.start().expect("a lone node");
        said(mesh.node(0), "not signed by");
        let sql = mesh.sql(0).await.expect("a session");
        sql.run("create table t (a int)")
            .await
            .expect("a majority goes on");
    });
}

/// Waits until one of the nodes has printed a line with all these words.
fn said_by_one(mesh: &Mesh, words: &[&str]) {
    let has = |line: &str| words.iter().all(|word| line.contains(word));
    let deadline = Instant::now() + PATIENCE;
    while !(0..mesh.count()).any(|place| mesh.node(place).output().lines().any(has)) {
        assert!(Instant::now() < deadline, "nobody said {words:?}");
        std::thread::yield_now();
    }
}

#[test]
fn a_copy_of_a_node_that_runs_is_refused_and_told_so() {
    run(async {
        let dir = tempfile::tempdir().expect("a directory");
        let mut mesh = Mesh::form(&binary(), dir.path(), 3)
            .await
            .expect("three nodes");
        mesh.node_mut(2).kill9();
        let copy = dir.path().join("copy");
        let copied = Command::new("cp")
            .arg("-r")
            .args([mesh.node(2).data_dir(), &copy])
            .status();
        assert!(copied.is_ok_and(|status| status.success()));
        // Both start from the same files: only the process is another one.
        mesh.spawn(2).expect("a process");
        mesh.wait_ready(PATIENCE).expect("the node is back");
        let copy = Launch::new(binary(), copy).mesh_addr(free_udp_addr());
        let copy = copy.spawn().expect("a process");
        let words = format!("two nodes claim to be n{}", mesh.id(2));
        said(&copy, &words);
        said_by_one(&mesh, &["a mesh connection was refused", &words]);
        let refused = copy.target().connect().await.err().expect("no session");
        assert_eq!(harness::sqlstate(&refused), "57P03");
        // The one that was there first goes on.
        let sql = mesh.sql(2).await.expect("a session");
        sql.run("create table t (a int)").await.expect("a table");
    });
}

#[test]
fn sigterm_ends_a_node_that_waits_for_others() {
    run(async {
        let dir = tempfile::tempdir().expect("a directory");
        let token = printed(&["token", "new"]);
        let all = [free_udp_addr(), free_udp_addr(), free_udp_addr()];
        let launch = |n: usize| founder(dir.path().join(format!("n{n}")), all[n], &all, 3, &token);
        // While it waits for founders.
        let mut first = launch(0).spawn().expect("a process");
        said(&first, "waiting for 2 of 3 founders");
        ends_well(&mut first);
        // The same promise holds afterwards.
        let mut nodes = [0, 1, 2].map(|n| launch(n).spawn().expect("a process"));
        for node in &mut nodes {
            node.wait_ready().unwrap_or_else(|error| panic!("{error}"));
        }
        nodes.iter_mut().for_each(Server::kill9);
        // While it waits for a majority.
        let mut alone = nodes[1].spawn_again().expect("a process");
        said(&alone, "waiting for a majority");
        ends_well(&mut alone);
        // While it waits to be let in.
        let stranger = Launch::new(binary(), dir.path().join("stranger"))
            .start()
            .expect("a lone node");
        let token = join_token(&stranger, &[]);
        let nobody = [free_udp_addr()];
        let joining = newcomer(dir.path().join("joining"), &nobody, &token);
        let mut joining = joining.spawn().expect("a process");
        said(&joining, "waiting to be let into the environment");
        ends_well(&mut joining);
        // All of them begin where they were.
        let mut nodes = nodes.map(|node| node.spawn_again().expect("a process"));
        for node in &mut nodes {
            node.wait_ready().unwrap_or_else(|error| panic!("{error}"));
        }
    });
}

/// Asks a node to end, which it does in good order.
fn ends_well(server: &mut Server) {
    let status = server.terminate();
    let output = server.output();
    assert!(
        status.is_some_and(|status| status.success()),
        "{status:?}: {output}"
    );
    said(server, "stopped before the node served");
}

#[test]
fn the_mesh_port_in_use_is_named() {
    run(async {
        let dir = tempfile::tempdir().expect("a directory");
        let at = free_udp_addr();
        let launch = |name: &str| Launch::new(binary(), dir.path().join(name)).mesh_addr(at);
        let _first = launch("a").start().expect("a lone node");
        refused(&launch("b"), &format!("--mesh-addr {at} is in use"));
        assert!(!dir.path().join("b").exists());
    });
}

/// Whether a process with this id exists.
fn lives(pid: &str) -> bool {
    Path::new("/proc").join(pid).exists()
}

#[test]
fn the_demo_shows_three_nodes_and_leaves_nothing_behind() {
    use std::io::{BufRead, BufReader, Read};
    run(async {
        let dir = tempfile::tempdir().expect("a directory");
        let mut demo = Command::new(binary())
            .args(["demo", "--nodes", "3"])
            .env("TMPDIR", dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .process_group(0)
            .spawn()
            .expect("the demo starts");
        let mut lines = BufReader::new(demo.stdout.take().expect("its output"));
        let mut output = String::new();
        while !output.contains("Ctrl-C ends all of them") {
            let read = lines.read_line(&mut output).expect("a line");
            assert!(read > 0, "it ended:\n{output}");
        }
        let pids: Vec<&str> = output
            .lines()
            .filter_map(|l| l.split("  pid ").nth(1))
            .collect();
        assert_eq!(pids.len(), 3, "{output}");
        assert!(pids.iter().all(|pid| lives(pid)), "{output}");
        let psql = output
            .lines()
            .find(|line| line.contains("psql -h 127.0.0.1"));
        let port = psql.and_then(|line| line.split(' ').skip_while(|word| *word != "-p").nth(1));
        let port: u16 = port.and_then(|port| port.parse().ok()).expect("a port");
        let sql = harness::Target::clusterd(SocketAddr::from(([127, 0, 0, 1], port)));
        let sql = sql.connect().await.expect("a session");
        let digits = "select count(*) from ticks_by_digit";
        while column(&sql, digits).await != "10" {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // SAFETY: kill(2) takes plain integers; the pid is that of our own child, which was not waited for.
        unsafe { libc::kill(demo.id() as libc::pid_t, libc::SIGINT) };
        let mut rest = String::new();
        lines.read_to_string(&mut rest).expect("the rest");
        let status = demo.wait().expect("an end");
        assert!(status.success(), "{status}\n{rest}");
        assert!(!pids.iter().any(|pid| lives(pid)), "{output}");
        let left = std::fs::read_dir(dir.path())
            .expect("the directory")
            .count();
        assert_eq!(left, 0);
    });
}
