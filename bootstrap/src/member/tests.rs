use super::*;
use host::RealDisk;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;

fn host() -> Host {
    Host {
        clock: Arc::new(host::RealClock::new()),
        disk: Arc::new(RealDisk),
        rng: Arc::new(host::RealRng),
        spawn: Arc::new(host::TokioSpawn::on(tokio::runtime::Handle::current())),
    }
}

fn open(host: &Host, path: &Path) -> Result<Member, OpenError> {
    Member::open(host, path, "127.0.0.1:2100")
}

#[tokio::test]
async fn a_lone_node_keeps_its_key_and_founds_once() {
    let (host, dir) = (host(), tempfile::tempdir().unwrap());
    let mut first = open(&host, dir.path()).unwrap();
    let founders = BTreeMap::from([(NodeId(1), "127.0.0.1:2100".to_owned())]);
    assert_eq!(first.found_with, Some(founders.clone()));
    let (peers, authority) = (first.peers.clone(), first.authority.clone().unwrap());
    let secrets = ["mesh/node.key.pem", "mesh/ca.key.pem"];
    for secret in secrets {
        let mode = fs::metadata(dir.path().join(secret)).unwrap().permissions();
        assert_eq!(mode.mode() & 0o077, 0, "{secret}");
    }
    // ENV was founded, but the key is not in it yet.
    first.data_dir.mark_formed(&host).unwrap();
    fs::create_dir(first.data_dir.wal()).unwrap();
    fs::write(first.data_dir.wal().join("segment"), "x").unwrap();
    drop(first);
    let mut second = open(&host, dir.path()).unwrap();
    assert_eq!((&second.found_with, &second.peers), (&None, &peers));
    assert!(second.authority.as_ref() == Some(&authority));
    second.forget_authority(&host).unwrap();
    second.forget_authority(&host).unwrap();
    drop(second);
    assert!(!dir.path().join(secrets[1]).exists());
    assert!(open(&host, dir.path()).unwrap().authority.is_none());
}

#[tokio::test]
async fn a_directory_of_an_older_program_gets_its_keys() {
    let (host, dir) = (host(), tempfile::tempdir().unwrap());
    let old = "format = 1\nenvironment = \"000000000000000000000000000000ab\"\nnode = 1\ngeneration = 4\nformed = true\n";
    let text = format!("# crc32c {:08x}\n{old}", crc32c::crc32c(old.as_bytes()));
    fs::write(dir.path().join("identity.toml"), text).unwrap();
    let starts = "count = 7\n";
    let text = format!(
        "# crc32c {:08x}\n{starts}",
        crc32c::crc32c(starts.as_bytes())
    );
    fs::write(dir.path().join("starts.toml"), text).unwrap();
    fs::create_dir(dir.path().join("wal")).unwrap();
    fs::write(dir.path().join("wal/segment"), "x").unwrap();
    let member = open(&host, dir.path()).unwrap();
    let identity = member.data_dir.identity();
    assert_eq!(
        (
            identity.environment_id(),
            identity.generation,
            member.data_dir.starts()
        ),
        (0xab, 4, 8)
    );
    // ENV is there already: it only has to be given the authority.
    assert!(member.found_with.is_none() && member.authority.is_some());
}

#[tokio::test]
async fn founders_formed_on_one_machine_agree() {
    let host = host();
    for n in [1, 2, 3, 5] {
        let dir = tempfile::tempdir().unwrap();
        let paths: Vec<PathBuf> = (0..n).map(|i| dir.path().join(format!("n{i}"))).collect();
        let founders: Vec<_> = paths.iter().map(|path| (path.as_path(), "a:1")).collect();
        let environment = form_locally(&host, &founders).unwrap();
        let again = form_locally(&host, &founders);
        assert!(matches!(again, Err(OpenError::Occupied { .. })));
        let members: Vec<Member> = paths.iter().map(|p| open(&host, p).unwrap()).collect();
        for (member, node) in members.iter().zip(1..) {
            let identity = member.data_dir.identity();
            assert_eq!(
                (identity.environment_id(), identity.node_id()),
                (environment.0, NodeId(node))
            );
            assert_eq!(member.peers, members[0].peers);
            assert_eq!(member.peers.nodes.len(), n);
            assert_eq!(member.authority.is_some(), node == 1);
            let votes = usize::try_from(node).unwrap() <= env_voters(n);
            let voters = member.found_with.as_ref().map(BTreeMap::len);
            assert_eq!(voters, votes.then_some(env_voters(n)));
        }
    }
}

#[tokio::test]
async fn lost_and_mixed_keys_are_refused() {
    let (host, dir) = (host(), tempfile::tempdir().unwrap());
    let (a, b) = (dir.path().join("a"), dir.path().join("b"));
    drop(open(&host, &a).unwrap());
    drop(open(&host, &b).unwrap());
    for file in ["node.key.pem", "node.cert.pem", "ca.cert.pem", "peers.toml"] {
        let (mine, theirs) = (a.join("mesh").join(file), b.join("mesh").join(file));
        let good = fs::read(&mine).unwrap();
        fs::remove_file(&mine).unwrap();
        assert!(open(&host, &a).is_err(), "{file} is missing");
        fs::write(&mine, &good[..good.len() / 2]).unwrap();
        assert!(open(&host, &a).is_err(), "{file} is truncated");
        if file != "peers.toml" {
            fs::copy(&theirs, &mine).unwrap();
            let opened = open(&host, &a);
            assert!(
                matches!(opened, Err(OpenError::Damaged { .. })),
                "{file} of b"
            );
        }
        fs::write(&mine, &good).unwrap();
    }
    drop(open(&host, &a).unwrap());
    fs::remove_dir_all(a.join("mesh")).unwrap();
    fs::rename(b.join("mesh"), a.join("mesh")).unwrap();
    assert!(matches!(open(&host, &a), Err(OpenError::OtherNode { .. })));
}

#[tokio::test]
async fn a_start_that_ended_before_it_was_somebody_is_taken_up() {
    let (host, dir) = (host(), tempfile::tempdir().unwrap());
    drop(open(&host, dir.path()).unwrap());
    let key = fs::read(dir.path().join("mesh/node.key.pem")).unwrap();
    fs::remove_file(dir.path().join("identity.toml")).unwrap();
    fs::remove_file(dir.path().join("starts.toml")).unwrap();
    let member = open(&host, dir.path()).unwrap();
    assert!(member.data_dir.is_new());
    assert_eq!(fs::read(dir.path().join("mesh/node.key.pem")).unwrap(), key);
}
