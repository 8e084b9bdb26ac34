//! A member who is removed while its post waits: nothing of it is stored behind the row that says so.

use chatto::service::{NewMessage, Position, PostError, RowKind};

use super::{CutAt, NatsServer, World, run};

/// More awaits than a post has.
const AWAITS_MAX: u32 = 60;

#[test]
fn a_post_that_was_checked_before_a_removal_is_not_stored_after_it() {
    let server = NatsServer::start();
    run(async |runtime| {
        let one = World::open_shared(&server, &runtime).await;
        let two = World::open_shared(&server, &runtime).await;
        let reader = one.person("reader", None).await;
        let general = one.room(&reader, "general").await;
        one.service.join_room(&reader, &general).await.unwrap();
        let (mut denied, mut stored) = (0, 0);
        for left in 1..AWAITS_MAX {
            let member = one.person(&format!("member-{left}"), None).await;
            // The other process wrote last: this one must look where its event goes.
            two.storage.barrier().await.unwrap();
            two.service.join_room(&member, &general).await.unwrap();
            one.storage.barrier().await.unwrap();
            let new = NewMessage { room: &general, body: "late", ..NewMessage::default() };
            let mut post = Box::pin(one.service.post_message(&member, new));
            // It is checked, and waits somewhere on its way while another process removes its author.
            let done = CutAt::new(&mut post, left).await;
            let removed = two.service.leave_room(&member, &general).await.unwrap();
            assert!(removed);
            let is_done = done.is_some();
            let answer = match done {
                Some(answer) => answer,
                None => post.await,
            };
            match answer {
                Ok(_) => stored += 1,
                Err(PostError::Denied) => denied += 1,
                Err(error) => panic!("{error:?}"),
            }
            one.storage.barrier().await.unwrap();
            let page = one.service.room_events(&reader, &general, Position::Newest, 100).await;
            let rows = page.unwrap().rows.into_iter().filter(|row| row.actor == Some(member.user));
            let rows: Vec<_> = rows.map(|row| row.kind).collect();
            assert_eq!(rows.last(), Some(&RowKind::Left), "cut at await {left}");
            if is_done {
                break;
            }
        }
        assert!(denied > 0 && stored > 0, "{denied} posts denied, {stored} stored");
        one.close().await;
        two.close().await;
    });
}
