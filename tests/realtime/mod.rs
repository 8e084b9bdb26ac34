//! `/api/realtime` frame by frame, as an existing client lives on it (contract 8).
//!
//! Each scenario takes a [`World`](world::World) and makes its own people and rooms there, so that the
//! same one runs against one process, against three that take turns, over TLS and through proxies.

mod client_rules;
mod close;
mod elections;
mod floods;
mod handshake;
mod idle;
mod live;
mod loading;
mod processes;
mod resume;
mod rights;
mod simulation;
mod slow;
mod world;

use world::World;

use crate::support::proxy::Kind;

/// Every scenario as a test of its own against one process, and all of them in one world elsewhere.
macro_rules! scenarios {
    ($($module:ident :: $name:ident),* $(,)?) => {
        mod one {
            $(
                #[test]
                fn $name() {
                    super::$module::$name(&super::World::one());
                }
            )*
        }

        /// All scenarios, one after the other.
        fn everything(world: &World) {
            $(
                eprintln!("--- {}", stringify!($name));
                $module::$name(world);
            )*
        }
    };
}

scenarios! {
    handshake::a_bearer_token_and_a_cookie_authenticate,
    handshake::a_bad_handshake_is_rejected,
    handshake::unexpected_frames_close_the_connection,
    handshake::a_close_frame_is_returned_with_its_own_code,
    loading::a_fresh_load_is_complete,
    loading::a_retained_room_is_loaded_with_its_rows,
    loading::unavailable_rooms_get_an_error,
    loading::hydrating_too_fast_gets_a_delay,
    live::a_post_reaches_members_and_nobody_else,
    live::reading_clears_every_session,
    live::typing_is_shown_to_other_members,
    live::presence_is_shown_to_everybody,
    live::joining_and_leaving_is_seen_from_both_sides,
    live::new_rooms_and_new_people_appear,
    live::images_of_people_and_of_the_server_are_shown_to_everybody,
    close::logging_out_ends_the_sockets_of_that_session,
    close::a_session_that_ended_after_the_hello_is_rejected,
    close::a_new_password_ends_every_session,
    close::a_role_resets_what_its_holder_sees,
    resume::a_dropped_connection_resumes_by_replay,
    resume::a_replay_shows_what_a_fresh_load_shows,
    resume::an_invalid_cursor_causes_a_reset,
    resume::a_room_joined_while_disconnected_is_sent_whole,
}

#[test]
fn everything_works_over_tls() {
    everything(&World::tls());
}

#[test]
fn everything_works_through_nginx() {
    everything(&World::behind(Kind::Nginx));
}

#[test]
fn everything_works_through_haproxy() {
    everything(&World::behind(Kind::Haproxy));
}

/// Each request and each connection reaches another process than the one before.
#[test]
fn everything_works_through_three_processes_in_turn() {
    everything(&World::three());
}
