//! Stored records as the build generates them from `stored.v1.proto`, for tests that read or write the bytes of the
//! store themselves. The store keeps its own to itself.

#![allow(clippy::all, unreachable_pub, dead_code, reason = "generated")]

use chatto::domain::timeline;

include!(concat!(env!("OUT_DIR"), "/chatto.stored.v1.rs"));

/// What lies in the journal for an event, by the fields of the proto file and not by the store's code.
impl From<timeline::Event> for Event {
    fn from(event: timeline::Event) -> Self {
        Self {
            number: event.number,
            request_id: event.request_id,
            state_revision: event.state_revision,
            at_ms: event.at_ms,
            actor_id: event.actor.map(|id| id.to_string()).unwrap_or_default(),
            rows_after: event.rows_after,
            effect: Some(effect(event.effect)),
        }
    }
}

fn effect(effect: timeline::Effect) -> event::Effect {
    use event::Effect;
    let echo = |id: chatto::domain::EventId| Echo { id: id.to_string(), row: id.row() };
    match effect {
        timeline::Effect::Post(post) => Effect::Post(Post {
            id: post.id.to_string(),
            row: post.id.row(),
            reply: post.id.reply(),
            content: Some(content(post.content)),
            in_reply_to: post.in_reply_to.map(|id| id.to_string()).unwrap_or_default(),
            create_thread: post.create_thread,
            echo: post.echo.map(echo),
            request_key: post.request_key,
        }),
        timeline::Effect::Edit(edit) => Effect::Edit(Edit {
            id: edit.id.to_string(),
            content: edit.content.map(content),
            show_echo: edit.show_echo.map(echo),
            hide_echo: edit.hide_echo.map(echo),
        }),
        timeline::Effect::Delete(delete) => Effect::Delete(Delete {
            id: delete.id.to_string(),
            echo_only: delete.echo_only,
            echo: delete.echo.map(echo),
        }),
        timeline::Effect::React(react) => Effect::React(React {
            id: react.id.to_string(),
            emoji: react.emoji,
            user_number: react.user.number(),
            remove: react.remove,
        }),
        timeline::Effect::Pin(pin) => {
            Effect::Pin(Pin { id: pin.id.to_string(), marker: pin.marker, remove: pin.remove })
        }
        timeline::Effect::Fact { id, fact } => Effect::Fact(Fact {
            id: id.to_string(),
            row: id.row(),
            kind: fact_number(fact.kind),
            call_id: fact.call_id,
            member_revision: fact.member_revision,
        }),
    }
}

fn content(content: timeline::Content) -> Content {
    let sealed = |body: timeline::Sealed| Sealed {
        key_id: body.key_id,
        nonce: body.nonce,
        ciphertext: body.ciphertext,
        version: body.version,
    };
    Content {
        body: content.body.map(sealed),
        attachment_ids: content.attachments.iter().map(ToString::to_string).collect(),
        ..Content::default()
    }
}

/// The stored number of a kind.
pub(crate) fn fact_number(kind: timeline::FactKind) -> i32 {
    match kind {
        timeline::FactKind::RoomCreated => 0,
        timeline::FactKind::Joined => 1,
        timeline::FactKind::Left => 2,
        timeline::FactKind::RoomUpdated => 3,
        timeline::FactKind::RoomArchived => 4,
        timeline::FactKind::RoomUnarchived => 5,
        timeline::FactKind::CallStarted => 6,
        timeline::FactKind::CallEnded => 7,
        timeline::FactKind::Other(number) => number,
    }
}
