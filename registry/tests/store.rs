//! One suite for both stores, and what each alone has to do.

#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]

#[path = "store/beats.rs"]
mod beats;
#[path = "store/changes.rs"]
mod changes;
#[path = "store/history.rs"]
mod history;
#[path = "store/loading.rs"]
mod loading;
#[path = "store/postgres.rs"]
mod postgres;
#[path = "store/postgres_faults.rs"]
mod postgres_faults;
#[path = "store/sqlite.rs"]
mod sqlite;
#[path = "store/support.rs"]
mod support;
#[path = "store/urls.rs"]
mod urls;

/// Runs each case on both stores.
macro_rules! conformance {
    ($($module:ident: $($case:ident)*;)*) => {
        mod on_postgres {
            $($(
                #[tokio::test(flavor = "multi_thread")]
                async fn $case() {
                    crate::$module::$case(crate::support::Place::postgres().await).await;
                }
            )*)*
        }
        mod on_sqlite {
            $($(
                #[tokio::test(flavor = "multi_thread")]
                async fn $case() {
                    crate::$module::$case(crate::support::Place::sqlite().await).await;
                }
            )*)*
        }
    };
}

conformance! {
    changes:
        an_empty_store_knows_nothing
        a_registration_is_read_back_whole
        an_id_stays_through_replacements_and_is_never_used_again
        a_conflict_writes_nothing
        an_ended_session_may_not_be_named
        ended_sessions_are_remembered_by_key
        of_one_key_as_many_ended_sessions_are_kept_as_a_node_remembers
        an_operators_drain_is_no_beat
        a_batch_is_answered_in_its_order
        the_largest_batch
        a_large_batch_of_large_entries
        revisions_are_gapless_under_many_committers
        changes_are_read_page_by_page
        of_a_change_that_the_reader_knows_only_the_number_is_read_but_an_expiry_comes_whole
        what_no_caller_may_ask_for_is_refused
        texts_of_all_kinds_survive
        an_entry_is_revived_with_a_new_id
        what_the_brake_tells_leaves_the_entry_as_it_is;
    beats:
        a_beat_counts
        missing_ids_are_named_and_the_others_beat
        an_expiry_removes
        an_expiry_is_passed_over_when_a_beat_came_between
        an_expiry_of_an_entry_that_changed_is_a_conflict
        expired_tells_only_of_expiries
        noted_beats_leave_out_what_is_gone;
    loading:
        what_is_loaded_is_what_was_written
        the_time_since_the_last_beat_is_told
        a_renewal_is_told_from_a_registration
        removals_are_remembered_oldest_first
        sessions_that_ended_are_loaded_with_and_without_an_entry
        history_is_trimmed_from_its_beginning
        migrating_again_changes_nothing
        a_later_schema_is_left_alone
        a_closed_store_is_out_of_reach;
}
