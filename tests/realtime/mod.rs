//! `/api/realtime` frame by frame, as an existing client lives on it (contract 8).
//!
//! Each scenario takes a [`World`](world::World) and makes its own people and rooms there, so that the
//! same one runs against one process, against three that take turns, over TLS and through proxies.

mod elections;
mod ends;
mod floods;
mod idle;
mod live;
mod loading;
mod lying;
mod opening;
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
    opening::bearer_and_cookie_get_in,
    opening::a_bad_opening_is_refused,
    opening::frames_that_do_not_belong_end_the_connection,
    opening::a_close_frame_is_answered_with_its_own_code,
    loading::a_fresh_load_is_complete,
    loading::a_held_room_comes_with_its_rows,
    loading::rooms_that_cannot_be_had_are_answered,
    loading::hydrating_too_fast_is_answered_with_a_delay,
    live::a_post_reaches_members_and_nobody_else,
    live::reading_clears_every_session,
    live::typing_is_shown_to_other_members,
    live::presence_is_shown_to_everybody,
    live::joining_and_leaving_is_seen_from_both_sides,
    live::new_rooms_and_new_people_appear,
    ends::logging_out_ends_the_sockets_of_that_session,
    ends::a_session_that_ended_after_the_hello_is_not_let_in,
    ends::a_new_password_ends_every_session,
    ends::a_role_resets_what_its_holder_sees,
    resume::a_cut_is_bridged_by_replay,
    resume::a_replay_shows_what_a_fresh_load_shows,
    resume::a_cursor_that_is_no_good_resets,
    resume::a_room_joined_while_away_comes_whole,
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
