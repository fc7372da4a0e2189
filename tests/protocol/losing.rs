//! Each rule broken alone: data is lost, and this is a shortest way.
//!
//! A model that could not fail would prove nothing. The rules' numbers are those of
//! `docs/format.md`, §19.

use super::rules::{Expiry, Lag, Merging, Protocol, Rules, UndoRule};
use super::search::loses;

/// A shortest loss by so many actors under broken rules.
fn broken(writers: usize, collectors: usize, breaks: impl FnOnce(&mut Rules)) -> Vec<String> {
    loses(Protocol::new(writers, collectors, 1).with(breaks))
}

#[test]
fn without_b4_a_writer_commits_on_packs_condemned_before_its_record_showed() {
    assert_eq!(
        broken(1, 1, |rules| rules.b4_relists = false),
        [
            "owner: forget 0",
            "w0: begin on {0}",
            "g0: condemn {0, 1}, chunks {0} of 0 copied",
            "lands: condemn 0",
            "g0: sweep 0, snapshots need chunks {0}",
            "lands: pending of 2",
            "w0: B4 clean, ok sent",
            "lands: ok of 2",
            "g0: delete {0, 1}",
            "lands: delete of pack 0",
        ]
    );
}

#[test]
fn without_g3_a_collector_deletes_what_a_record_it_never_saw_needs() {
    assert_eq!(
        broken(1, 1, |rules| rules.g3_relists = false),
        [
            "owner: forget 0",
            "w0: begin on {0}",
            "g0: condemn {0, 1}, chunks {0} of 0 copied",
            "lands: pending of 2",
            "w0: B4 clean, ok sent",
            "lands: ok of 2",
            "g0: delete at once",
            "lands: delete of pack 0",
        ]
    );
}

#[test]
fn two_collectors_that_count_only_their_own_condemns_delete_each_other_s_copy() {
    assert_eq!(
        broken(1, 2, |rules| rules.g4_counts_all = false),
        [
            "owner: forget 0",
            "g0: condemn {1}",
            "g1: condemn {0}",
            "lands: condemn 0",
            "lands: condemn 1",
            "g0: sweep 0, snapshots need chunks {0}",
            "g0: delete {1}",
            "g1: sweep 1, snapshots need chunks {0}",
            "g1: delete {0}",
            "lands: delete of pack 0",
            "lands: delete of pack 1",
        ]
    );
}

#[test]
fn a_pack_name_used_again_is_hit_by_the_delete_meant_for_the_old_pack() {
    // The writer knew the condemn record, so at B4 it is no news; its own new pack has that name.
    assert_eq!(
        broken(2, 1, |rules| rules.i3_fresh_names = false),
        [
            "owner: forget 0",
            "owner: forget 1",
            "g0: condemn {0, 1}",
            "lands: condemn 0",
            "w1: begin on {}, chunks {0, 1} stored in 0",
            "g0: sweep 0, snapshots need chunks {}",
            "lands: pending of 3",
            "w1: B4 clean, ok sent",
            "lands: ok of 3",
            "g0: delete {0, 1}",
            "lands: delete of pack 0",
        ]
    );
}

#[test]
fn an_expired_backup_that_ends_after_all_loses_its_packs() {
    assert_eq!(
        broken(1, 1, |rules| rules.expiry = Expiry::Plain),
        [
            "owner: forget 0",
            "w0: begin on {0}",
            "lands: pending of 2",
            "owner: expire 2",
            "lands: expire of 2",
            "w0: B4 clean, ok sent",
            "lands: ok of 2",
            "w0: acknowledged",
            "g0: condemn {0, 1}, chunks {0} of 0 copied",
            "lands: condemn 0",
            "g0: sweep 0, snapshots need chunks {0}",
            "g0: delete {0, 1}",
            "lands: delete of pack 0",
        ]
    );
}

#[test]
fn an_expired_backup_whose_ok_comes_after_g3_loses_its_packs() {
    assert_eq!(
        broken(1, 1, |rules| rules.expiry = Expiry::VoidIfOk),
        [
            "owner: forget 0",
            "w0: begin on {0}",
            "lands: pending of 2",
            "owner: expire 2",
            "lands: expire of 2",
            "w0: B4 clean, ok sent",
            "g0: condemn {0, 1}, chunks {0} of 0 copied",
            "lands: condemn 0",
            "g0: sweep 0, snapshots need chunks {0}",
            "lands: ok of 2",
            "w0: acknowledged",
            "g0: delete {0, 1}",
            "lands: delete of pack 0",
        ]
    );
}

#[test]
fn listings_that_lag_by_more_than_half_the_wait_lose_what_both_sides_missed() {
    // B4 misses a record one tick old; G3, two ticks after it landed, misses the pending record.
    assert_eq!(
        broken(1, 1, |rules| rules.lag = Some(Lag { ticks: 2, wait: 2 })),
        [
            "owner: forget 0",
            "w0: begin on {0}",
            "g0: condemn {0, 1}, chunks {0} of 0 copied",
            "lands: condemn 0",
            "a tick",
            "lands: pending of 2",
            "w0: B4 clean, ok sent",
            "lands: ok of 2",
            "a tick",
            "g0: sweep 0, snapshots need chunks {0}",
            "g0: delete {0, 1}",
            "lands: delete of pack 0",
        ]
    );
}

#[test]
fn with_listings_that_lag_a_fresh_expiry_undoes_what_an_old_condemn_record_spared() {
    // The wait counts from the condemn record and is long over when the tombstone lands; then B6
    // misses the tombstone, and G3 the ok.
    assert_eq!(
        broken(1, 1, |rules| {
            rules.lag = Some(Lag { ticks: 2, wait: 4 });
            rules.expiry = Expiry::VoidIfOkAndRechecked;
        }),
        [
            "owner: forget 0",
            "w0: begin on {0}",
            "g0: condemn {0, 1}, chunks {0} of 0 copied",
            "lands: pending of 2",
            "lands: condemn 0",
            "a tick",
            "owner: expire 2",
            "w0: B4 clean, ok sent",
            "a tick",
            "lands: expire of 2",
            "a tick",
            "lands: ok of 2",
            "w0: acknowledged",
            "a tick",
            "g0: sweep 0, snapshots need chunks {0}",
            "g0: delete {0, 1}",
            "lands: delete of pack 0",
        ]
    );
}

#[test]
fn an_undo_that_only_withdraws_loses_what_a_sweep_under_way_deletes() {
    assert_eq!(
        broken(1, 1, |rules| rules.undo = UndoRule::Unchecked),
        [
            "owner: forget 0",
            "owner: undo 0",
            "g0: condemn {0, 1}, chunks {0} of 0 copied",
            "lands: condemn 0",
            "g0: sweep 0, snapshots need chunks {0}",
            "lands: withdrawal of 0",
            "owner: undo done",
            "g0: delete {0, 1}",
            "lands: delete of pack 0",
        ]
    );
}

#[test]
fn an_undo_that_looks_before_it_withdraws_loses_the_same() {
    assert_eq!(
        broken(1, 1, |rules| rules.undo = UndoRule::CheckedBefore),
        [
            "owner: forget 0",
            "owner: undo 0",
            "g0: condemn {0, 1}, chunks {0} of 0 copied",
            "lands: condemn 0",
            "g0: sweep 0, snapshots need chunks {0}",
            "lands: withdrawal of 0",
            "owner: undo done",
            "g0: delete {0, 1}",
            "lands: delete of pack 0",
        ]
    );
}

#[test]
fn an_undo_that_deletes_the_tombstone_loses_to_a_second_copy_of_its_put() {
    assert_eq!(
        broken(1, 1, |rules| rules.undo = UndoRule::RescuesAfterDelete),
        [
            "owner: forget 0",
            "owner: undo 0",
            "lands: withdrawal of 0",
            "lands: forget of 0",
            "owner: undo lacks chunks {}",
            "owner: undo done",
            "g0: condemn {0, 1}, chunks {0} of 0 copied",
            "lands: condemn 0",
            "g0: sweep 0, snapshots need chunks {0}",
            "g0: delete {0, 1}",
            "lands: delete of pack 0",
        ]
    );
}

#[test]
fn merged_segments_that_are_deleted_unchecked_hide_packs_that_are_needed() {
    assert_eq!(
        broken(1, 1, |rules| rules.merging = Merging::DeletesUnchecked),
        [
            "owner: forget 0",
            "w0: begin on {0}",
            "g0: condemn {0, 1}, chunks {0} of 0 copied",
            "lands: pending of 2",
            "w0: B4 clean, ok sent",
            "lands: ok of 2",
            "lands: condemn 0",
            "g0: sweep 0, snapshots need chunks {0, 1}",
            "g0: delete {1}, segments {0, 1}",
            "lands: delete of segment 0",
        ]
    );
}

#[test]
fn merged_segments_that_drop_packs_lose_those_of_a_writer_that_only_minds_packs() {
    let rules = |rules: &mut Rules| {
        rules.merging = Merging::DropsUnneeded;
        rules.b4_minds_segments = false;
    };
    assert_eq!(
        loses(Protocol::new(1, 1, 1).any_choices().without_crash_steps().with(rules)),
        [
            "owner: forget 0",
            "owner: forget 1",
            "w0: begin on {0}",
            "g0: condemn {1}, segments merged",
            "lands: condemn 0",
            "g0: sweep 0, snapshots need chunks {}",
            "lands: pending of 2",
            "w0: B4 clean, ok sent",
            "lands: ok of 2",
            "g0: delete {1}, segments {0, 1}",
            "lands: delete of segment 0",
        ]
    );
}

#[test]
fn of_two_undos_at_once_one_that_fails_and_forgets_again_loses_what_the_other_promised() {
    // The second listed the packs before the first had copied what was missing.
    let rules = |rules: &mut Rules| {
        rules.undo = UndoRule::RescuesOrForgetsAgain;
        rules.two_undos = true;
    };
    assert_eq!(
        loses(Protocol::new(0, 1, 2).without_crash_steps().with(rules)),
        [
            "owner: forget 0",
            "owner: undo 0",
            "other owner: undo 0",
            "g0: condemn {0, 1}, chunks {0} of 0 copied",
            "lands: withdrawal of 0",
            "lands: condemn 0",
            "owner: undo lacks chunks {1}",
            "other owner: undo lacks chunks {1}",
            "owner: undo done",
            "g0: sweep 0, snapshots need chunks {0, 1}",
            "g0: delete {0, 1}",
            "lands: delete of pack 0",
            "other owner: undo failed",
            "lands: second forget of 0",
            "g0: condemn {4}",
            "lands: condemn 1",
            "g0: sweep 1, snapshots need chunks {0}",
            "g0: delete {4}",
            "lands: delete of pack 4",
        ]
    );
}
