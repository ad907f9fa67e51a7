//! The acceptance tests: the product on a real kernel, a real network and a real disk, all daemons as in production.
//!
//! They need root, and the Debian packages that `make test` installs. Without them they fail and say what is missing.

use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};

mod again;
mod audit;
mod certificates;
mod connect;
mod courier;
mod crowds;
mod demo;
mod denials;
mod ends;
mod flow;
mod hostile;
mod input;
mod losses;
mod peers;
mod policy;
mod restarts;
mod walls;
mod workspaces;

/// Each test is a function of the same name, in the module before the colons.
macro_rules! trials {
    ($($module:ident :: { $($test:ident),* $(,)? })*) => {
        vec![$($(trial(stringify!($module), stringify!($test), $module::$test),)*)*]
    };
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let trials = trials! {
        connect::{
            a_holder_works_over_quic_and_over_tls, the_client_ends_with_the_commands_status, what_is_typed_reaches_the_shell, text_in_any_script_passes_unharmed,
            a_holder_of_several_permits_names_one, a_second_session_waits_where_the_permit_allows_one, the_banner_tells_permit_recording_and_end,
        }
        peers::{
            openssl_works_with_a_holders_certificate_and_not_without, openssl_gets_no_older_tls, aioquic_works_with_a_holders_certificate_and_not_without,
        }
        certificates::{each_refused_certificate_is_an_entry, a_holder_is_no_operator, revocation_cuts_an_open_session_within_one_second, a_list_that_grows_too_old_ends_open_sessions_and_lets_nobody_in}
        policy::{only_a_signed_revision_counts_and_it_counts_at_once, a_halt_ends_every_session_and_admits_nobody_until_it_is_lifted}
        walls::{
            what_a_cell_may_not_call_is_refused, a_cell_sees_nothing_of_the_host, a_cell_reaches_its_destinations_and_nothing_else,
            no_session_sees_anothers_processes, a_greedy_cell_hurts_itself_alone,
        }
        denials::{
            a_researcher_is_told_at_once_what_was_denied_and_why, notices_of_denials_can_be_off,
            a_name_that_is_not_listed_is_asked_of_nobody_and_its_holder_reads_why,
        }
        ends::{
            an_idle_session_is_closed_however_much_it_shows, the_longest_session_ends, an_operator_ends_a_session, a_session_that_ends_in_the_middle_of_a_flow_leaves_nothing, a_session_ends_when_its_holder_leaves,
            a_session_ends_when_its_connection_breaks, a_permits_end_ends_the_open_session, a_draining_gateway_closes_its_sessions,
        }
        again::{
            a_lost_connection_is_found_again_with_what_ran_in_it, what_is_typed_is_applied_once_however_often_the_connection_is_lost,
            what_is_left_running_is_there_again_and_the_screen_too, a_session_is_taken_over_from_a_connection_that_still_stands, whoever_may_open_no_more_takes_over_what_she_has,
            nobody_but_the_key_that_opened_it_finds_a_session_and_its_revocation_ends_it, a_connection_goes_on_from_another_address_that_the_permit_allows, a_connection_goes_on_from_no_address_that_the_permit_does_not_allow, a_session_that_nobody_takes_up_ends,
        }
        restarts::{
            a_killed_gateway_is_replaced_and_its_sessions_go_on, a_gateway_that_is_told_to_stop_leaves_its_sessions_to_the_next_one,
            over_quic_the_next_gateway_says_that_the_connection_is_gone, a_gateway_that_comes_back_ends_the_session_of_a_revoked_certificate,
            peers_that_say_nothing_do_not_keep_a_gateway_from_its_end,
        }
        losses::{
            a_killed_warden_leaves_no_cell, a_killed_gateway_leaves_cells_without_egress_and_soon_none, without_a_ledger_nothing_opens_and_nothing_goes_on, a_stalled_ledger_freezes_a_session_which_goes_on_with_it,
            a_ledger_that_stays_stalled_ends_the_session,
            a_host_without_a_control_refuses_every_session,
        }
        hostile::{
            a_hostile_frame_closes_its_own_connection_alone, a_peer_that_says_nothing_is_hung_up_on,
            a_flood_of_refused_peers_is_counted_and_leaves_others_their_entries,
        }
        crowds::{
            a_holder_has_so_many_connections_without_a_session_and_no_more, strangers_at_every_place_keep_neither_operators_nor_holders_out,
            a_gateway_without_descriptors_ends_nothing_and_serves_again,
        }
        flow::{ctrl_c_is_heard_in_a_flood, a_slow_reader_slows_itself_alone, what_would_write_the_clipboard_is_removed_and_audited}
        audit::{
            what_was_shown_can_be_replayed, nothing_on_the_host_opens_a_recording, every_reading_is_an_entry, a_flipped_bit_is_found_and_named, a_proof_stands_alone, a_ledger_survives_its_own_restart,
        }
        workspaces::{an_ended_permits_workspace_is_destroyed_with_a_certificate}
        courier::{a_sessions_events_reach_the_file_and_the_syslog_receiver}
        input::{
            an_unknown_key_in_a_daemons_settings_is_an_error_with_its_place, a_mistake_in_a_permit_is_named_before_it_is_in_force,
            the_samples_parse_and_fit_together,
        }
        demo::{the_demo_meets_every_expectation, the_demo_of_an_ordinary_user_meets_every_expectation, ctrl_c_ends_the_demo_and_leaves_nothing}
    };
    let conclusion = libtest_mimic::run(&arguments, trials);
    let left = sulku_tests::close_shared();
    if !left.is_empty() {
        eprintln!("the shared environment left something behind:");
        left.iter().for_each(|leftover| eprintln!("  {leftover}"));
        return ExitCode::FAILURE;
    }
    conclusion.exit_code()
}

fn trial(module: &str, name: &str, test: fn() -> anyhow::Result<()>) -> Trial {
    Trial::test(format!("{module}::{name}"), move || test().map_err(|error| Failed::from(format!("{error:#}"))))
}
