//! Who may talk to whom.

use super::*;

/// What node 1 of a world hears when it calls a node started with `config`, and what that node hears the other way.
async fn both_refuse(one: QuicConfig, two: QuicConfig) -> [String; 2] {
    let (one, two) = (start(one), start(two));
    introduce(&one, &two);
    introduce(&two, &one);
    let answers = [
        echo(&one, two.node(), Lane::Control).await,
        echo(&two, one.node(), Lane::Control).await,
    ];
    answers.map(rejection)
}

#[tokio::test]
async fn another_authority_is_refused_by_both_sides() {
    // Even one that claims the same environment.
    let (world, foreign) = (World::new(1), World::new(1));
    for reason in both_refuse(world.config(1), foreign.config(2)).await {
        assert!(reason.contains("not signed by"), "{reason}");
        assert!(reason.contains("environment's authority"), "{reason}");
    }
}

#[tokio::test]
async fn a_certificate_of_the_authority_for_another_environment_is_refused() {
    let world = World::new(1);
    let mut two = world.config(2);
    two.identity.name.environment = EnvironmentId(2);
    two.credentials = world.credentials(two.identity.name);
    for reason in both_refuse(world.config(1), two).await {
        assert!(
            reason.contains("it belongs to environment 0000"),
            "{reason}"
        );
    }
}

#[tokio::test]
async fn another_version_is_refused_in_words() {
    let world = World::new(1);
    let mut two = world.config(2);
    two.version = crate::PROTOCOL_VERSION - 1;
    let [one_hears, two_hears] = both_refuse(world.config(1), two).await;
    for reason in [&one_hears, &two_hears] {
        assert!(reason.contains("a peer of another version"), "{reason}");
    }
    // Node 2 read node 1's hello first, and said so.
    assert_eq!(
        one_hears,
        "the other side says: a peer of another version: it speaks version 2 of the mesh protocol, this node version 1"
    );
}

#[tokio::test]
async fn another_generation_is_refused() {
    let world = World::new(1);
    let mut two = world.config(2);
    two.identity.generation = Generation {
        number: 2,
        nonce: 8,
    };
    let [one_hears, two_hears] = both_refuse(world.config(1), two).await;
    for reason in [&one_hears, &two_hears] {
        let clear = reason.contains("recovered without the one whose generation is lower");
        assert!(clear && reason.contains("join anew"), "{reason}");
    }
}

#[tokio::test]
async fn two_recoveries_of_one_environment_refuse_each_other() {
    let world = World::new(1);
    let recovered = |node, nonce| {
        let mut config = world.config(node);
        config.identity.generation = Generation { number: 2, nonce };
        config
    };
    for reason in both_refuse(recovered(1, 7), recovered(2, 8)).await {
        let which = reason.contains("2 (recovery 0000000000000007)")
            && reason.contains("2 (recovery 0000000000000008)");
        assert!(which, "{reason}");
        assert!(
            reason.contains("recover apply was run on more than one node"),
            "{reason}"
        );
    }
}

#[tokio::test]
async fn whoever_answers_must_be_the_node_that_was_called() {
    let world = World::new(1);
    let (one, three) = (world.start(1), world.start(3));
    one.set_peer(NodeId(2), &three.local_address().to_string());
    let reason = rejection(echo(&one, NodeId(2), Lane::Raft).await);
    assert_eq!(reason, "node n3 answered where node n2 should be");
    // A copy of this node itself.
    let copy = world.start(1);
    one.set_peer(NodeId(4), &copy.local_address().to_string());
    let reason = rejection(echo(&one, NodeId(4), Lane::Raft).await);
    assert_eq!(reason, "the other side says: two nodes claim to be n1");
}

#[tokio::test]
async fn a_certificate_for_another_node_does_not_start() {
    let world = World::new(1);
    let mut config = world.config(2);
    config.identity.name = world.name(3);
    let started = QuicTransport::start(config, Host::real());
    assert!(matches!(started, Err(StartError::OtherNode(_))));
}

#[tokio::test]
async fn of_two_processes_with_one_id_the_second_is_refused() {
    let world = World::new(1);
    let (one, first, second) = (world.start(1), world.start(2), world.start(2));
    introduce(&first, &one);
    introduce(&second, &one);
    assert!(echo(&first, NodeId(1), Lane::Control).await.is_ok());
    let reason = rejection(echo(&second, NodeId(1), Lane::Control).await);
    assert_eq!(reason, "the other side says: two nodes claim to be n2");
    assert!(echo(&first, NodeId(1), Lane::Control).await.is_ok());
}

#[tokio::test]
async fn a_later_start_replaces_an_earlier_one_and_never_the_other_way() {
    let world = World::new(1);
    let one = world.start(1);
    let early = world.start(2);
    let mut config = world.config(2);
    config.identity.incarnation = 2;
    let late = start(config);
    introduce(&early, &one);
    introduce(&late, &one);
    assert!(echo(&early, NodeId(1), Lane::Control).await.is_ok());
    assert!(echo(&late, NodeId(1), Lane::Control).await.is_ok());
    // Its connection was ended; the next is refused.
    let refused = async {
        loop {
            if let Err(CallError::Rejected { reason, .. }) =
                echo(&early, NodeId(1), Lane::Control).await
            {
                return reason;
            }
        }
    };
    let reason = tokio::time::timeout(PATIENCE, refused).await.unwrap();
    assert!(
        reason.contains("start 1 of node n2, but start 2"),
        "{reason}"
    );
}

#[tokio::test]
async fn a_removed_node_is_refused_and_not_called() {
    let world = World::new(1);
    let (one, two) = world.pair();
    assert!(echo(&one, NodeId(2), Lane::Control).await.is_ok());
    assert!(echo(&two, NodeId(1), Lane::Control).await.is_ok());
    one.remove_peer(NodeId(2));
    // It comes back, even where it is known.
    introduce(&one, &two);
    let reason = rejection(echo(&one, NodeId(2), Lane::Control).await);
    assert!(
        reason.contains("was removed from the environment"),
        "{reason}"
    );
    let refused = async {
        loop {
            if let Err(CallError::Rejected { reason, .. }) =
                echo(&two, NodeId(1), Lane::Control).await
            {
                return reason;
            }
        }
    };
    let reason = tokio::time::timeout(PATIENCE, refused).await.unwrap();
    assert!(reason.contains("node n2 was removed"), "{reason}");
    // It knows what to do now; the other one was not told anything.
    let said = two.expelled().borrow().clone().unwrap();
    assert!(said.contains("node n2 was removed"), "{said}");
    assert_eq!(*one.expelled().borrow(), None);
}

#[tokio::test]
async fn a_removed_node_hears_of_it_on_a_connection_that_it_has() {
    let world = World::new(1);
    let (one, two) = world.pair();
    // Only the connection that node 1 has made: node 2 asks nothing, and hears of it all the same.
    assert!(echo(&one, NodeId(2), Lane::Control).await.is_ok());
    let mut expelled = two.expelled();
    one.remove_peer(NodeId(2));
    let heard = expelled.wait_for(Option::is_some);
    let heard = tokio::time::timeout(PATIENCE, heard).await.unwrap();
    assert!(heard.is_ok());
}
