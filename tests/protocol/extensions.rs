//! One extension of the protocol at a time, mostly with two writers and one collector.
//!
//! The figures are part of the claim, as in `base`.

use super::model::Goal;
use super::rules::{Expiry, Lag, Merging, Protocol, Rules, UndoRule};
use super::search::{
    ACKED_AFTER_DELETION, MERGED_AWAY, REFUSED, RESCUED, SWEPT, UNDO_FAILED, UNDONE, holds,
};

const GOALS: &[Goal] = &[ACKED_AFTER_DELETION, SWEPT, RESCUED];
const EXPIRY_GOALS: &[Goal] = &[ACKED_AFTER_DELETION, SWEPT, RESCUED, REFUSED];
const UNDO_GOALS: &[Goal] = &[ACKED_AFTER_DELETION, SWEPT, RESCUED, UNDONE, UNDO_FAILED];
const MERGE_GOALS: &[Goal] = &[ACKED_AFTER_DELETION, SWEPT, RESCUED, MERGED_AWAY];

/// The protocol with an extension.
fn extended(writers: usize, collectors: usize, extends: impl FnOnce(&mut Rules)) -> Protocol {
    Protocol::new(writers, collectors, 1).with(extends)
}

fn expiry(rules: &mut Rules) {
    rules.expiry = Expiry::VoidIfOkAndRechecked;
}

fn undo(rules: &mut Rules) {
    rules.undo = UndoRule::Rescues;
}

fn merging(rules: &mut Rules) {
    rules.merging = Merging::ByTheRules;
}

fn late_packs(rules: &mut Rules) {
    rules.late_packs = true;
}

fn lag(ticks: u8, wait: u8) -> impl Fn(&mut Rules) {
    move |rules| rules.lag = Some(Lag { ticks, wait })
}

#[test]
fn backups_that_are_expired_while_they_run_lose_nothing_with_i5_and_b6() {
    let protocol = extended(2, 1, expiry).single_lists().reaching(EXPIRY_GOALS);
    assert_eq!(holds(protocol), 301_702);
    assert_eq!(holds(extended(1, 2, expiry).reaching(EXPIRY_GOALS)), 348_671);
}

#[test]
fn an_undo_that_lists_gc_once_withdrawn_and_copies_what_is_condemned_loses_nothing() {
    let protocol = extended(2, 1, undo).single_lists().reaching(UNDO_GOALS);
    assert_eq!(holds(protocol), 552_556);
    let protocol = extended(1, 2, undo).without_crash_steps().reaching(UNDO_GOALS);
    assert_eq!(holds(protocol), 844_069);
}

#[test]
fn two_undos_at_once_lose_nothing_while_neither_forgets_again() {
    let both = |rules: &mut Rules| rules.two_undos = true;
    let protocol = extended(1, 1, undo).with(both).reaching(UNDO_GOALS);
    assert_eq!(holds(protocol), 189_210);
}

#[test]
fn packs_that_land_late_or_again_after_they_were_deleted_lose_nothing() {
    assert_eq!(holds(extended(2, 1, late_packs).reaching(GOALS)), 59_936);
    let protocol = extended(1, 2, late_packs).without_crash_steps().reaching(GOALS);
    assert_eq!(holds(protocol), 77_033);
}

#[test]
fn segments_that_are_merged_and_deleted_lose_nothing() {
    assert_eq!(holds(extended(2, 1, merging).reaching(MERGE_GOALS)), 167_874);
    let twice = Protocol::new(1, 1, 2).with(merging);
    assert_eq!(holds(twice.reaching(MERGE_GOALS)), 615_817);
    let protocol = extended(1, 2, merging).without_crash_steps().reaching(MERGE_GOALS);
    assert_eq!(holds(protocol), 1_701_016);
}

#[test]
fn what_a_merged_segment_drops_is_safe_while_b4_minds_segments() {
    // A writer knows a pack through the old segment alone; the new one does not name it.
    let drops = |rules: &mut Rules| rules.merging = Merging::DropsUnneeded;
    let protocol = extended(2, 1, drops).any_choices().without_crash_steps();
    assert_eq!(holds(protocol.reaching(MERGE_GOALS)), 162_269);
}

#[test]
fn listings_that_lag_by_half_the_wait_lose_nothing() {
    assert_eq!(holds(extended(1, 1, lag(1, 2)).reaching(GOALS)), 12_344);
    for (writers, collectors, states) in [(2, 1, 1_264_646), (1, 2, 503_798)] {
        let protocol = extended(writers, collectors, lag(1, 2)).without_crash_steps();
        assert_eq!(holds(protocol.reaching(GOALS)), states);
    }
}

#[test]
fn listings_that_lag_by_two_ticks_lose_nothing_when_collectors_wait_for_four() {
    assert_eq!(holds(extended(1, 1, lag(2, 4)).reaching(GOALS)), 29_570);
    let protocol = extended(2, 1, lag(2, 4)).without_crash_steps();
    assert_eq!(holds(protocol.reaching(GOALS)), 4_509_330);
    // Where time goes in whole ticks, one less does, too: nothing happens between two ticks.
    assert_eq!(holds(extended(1, 1, lag(2, 3)).reaching(GOALS)), 26_984);
}

#[test]
fn with_listings_that_lag_an_expiry_that_counts_only_after_the_wait_loses_nothing() {
    let waits = |rules: &mut Rules| rules.expiry = Expiry::Waits;
    let protocol = extended(1, 1, lag(2, 4)).with(waits).reaching(EXPIRY_GOALS);
    assert_eq!(holds(protocol), 132_334);
}

#[test]
fn undo_and_merging_stand_lagging_listings_and_each_other() {
    let protocol = extended(1, 1, lag(2, 4)).with(undo).reaching(UNDO_GOALS);
    assert_eq!(holds(protocol), 585_175);
    let protocol = extended(1, 1, lag(1, 2)).with(merging).reaching(MERGE_GOALS);
    assert_eq!(holds(protocol), 68_630);
    let protocol = extended(1, 1, undo).with(merging).reaching(MERGE_GOALS);
    assert_eq!(holds(protocol), 98_091);
}
