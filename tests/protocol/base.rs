//! The plain protocol, with crashes at every step, late messages and repacking: nothing is lost.
//!
//! The figures are part of the claim: a model that forbids too much holds, too, in fewer states.

use super::model::Goal;
use super::rules::Protocol;
use super::search::{ACKED_AFTER_DELETION, ALL_ACKED, RESCUED, SWEPT, holds};

const GOALS: &[Goal] = &[ALL_ACKED, ACKED_AFTER_DELETION, SWEPT, RESCUED];

#[test]
fn two_writers_and_two_collectors_lose_nothing() {
    assert_eq!(holds(Protocol::new(2, 2, 1).reaching(GOALS)), 3_725_737);
}

#[test]
fn two_writers_and_a_collector_that_comes_twice_lose_nothing() {
    assert_eq!(holds(Protocol::new(2, 1, 1).reaching(GOALS)), 28_507);
    assert_eq!(holds(Protocol::new(2, 1, 2).reaching(GOALS)), 729_610);
}

#[test]
fn a_writer_and_two_collectors_lose_nothing() {
    assert_eq!(holds(Protocol::new(1, 2, 1).reaching(GOALS)), 118_546);
    let twice = Protocol::new(1, 2, 2).without_crash_steps();
    assert_eq!(holds(twice.reaching(GOALS)), 2_859_751);
}

#[test]
fn whatever_a_collector_condemns_and_a_writer_chooses_nothing_is_lost() {
    assert_eq!(holds(Protocol::new(2, 1, 1).any_choices().reaching(GOALS)), 63_824);
    let two = Protocol::new(2, 2, 1).any_choices().without_crash_steps();
    assert_eq!(holds(two.reaching(GOALS)), 4_538_786);
}

#[test]
fn a_collector_that_lists_folder_by_folder_loses_nothing() {
    assert_eq!(holds(Protocol::new(1, 2, 1).single_lists().reaching(GOALS)), 319_674);
}

#[test]
fn snapshots_that_are_forgotten_while_others_reuse_their_packs_take_nothing_with_them() {
    let forgets = Protocol::new(2, 1, 1).with(|rules| rules.forgets_new = true);
    assert_eq!(holds(forgets.reaching(GOALS)), 50_578);
}

#[test]
fn a_writer_that_picks_condemned_packs_is_stopped_by_b4() {
    let picks = Protocol::new(2, 1, 1).with(|rules| rules.b1_avoids_condemned = false);
    assert_eq!(holds(picks.reaching(GOALS)), 18_115);
}

#[test]
fn a_writer_that_replaced_condemned_packs_need_not_look_again() {
    let once = |writers, collectors| {
        let goals = &[ALL_ACKED, ACKED_AFTER_DELETION, SWEPT];
        let protocol = Protocol::new(writers, collectors, 1).reaching(goals);
        holds(protocol.with(|rules| rules.b4_repeats = false))
    };
    assert_eq!(once(2, 1), 24_203);
    assert_eq!(once(1, 2), 106_739);
}
