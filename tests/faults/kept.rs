//! What was seen of a store is kept in its repository, and honoured there by every host.

use std::time::Duration;

use volume_vault::format::StoreFacts;
use volume_vault::ops::OpsError;
use volume_vault::ops::prune::{Grace, PruneOptions};
use volume_vault::repo::{GRACE_LAGGING, RepoError, grace_min, keep_facts};
use volume_vault::store::{CallKind, RecordStore};

use crate::support::garden::{at_once, collect};
use crate::support::repo::{Bench, assert_restores, backup, make_tree, open, scratch};
use crate::support::tree::describe;

const SOUND: StoreFacts =
    StoreFacts { tried: 1, lists_written: true, lists_many: Some(true), creates_once: Some(true) };

fn waiting(grace: Duration) -> PruneOptions {
    PruneOptions { grace: Grace::Given(grace), ..at_once() }
}

fn refused(result: Result<impl Sized, OpsError>) -> String {
    match result {
        Err(OpsError::Refused(why)) => why,
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("it is not refused"),
    }
}

#[test]
fn where_lists_were_seen_to_lag_all_hosts_wait_a_week_before_they_delete() {
    let (bench, dir) = (Bench::new(), scratch());
    make_tree(dir.path());
    let saved = backup(&bench.open(), dir.path()).expect("acknowledged");
    let _ = collect(&bench.open(), &at_once()).expect("nothing is known yet");
    let lagging = StoreFacts { lists_written: false, ..SOUND };
    assert_eq!(keep_facts(&bench.open(), lagging).expect("kept"), lagging);
    for host in [bench.other_host(), bench] {
        let repo = host.open();
        assert_eq!(repo.config().store, Some(lagging));
        assert_eq!(grace_min(&repo), Some(GRACE_LAGGING));
        let day = Duration::from_secs(86_400);
        for options in [
            at_once(),
            waiting(day),
            PruneOptions { grace: Grace::Local, ..at_once() },
            waiting(GRACE_LAGGING - Duration::from_secs(1)),
        ] {
            let why = refused(collect(&repo, &options));
            assert!(why.contains("lag") && why.contains("7 days"), "{why}");
        }
        let _ = collect(&repo, &waiting(GRACE_LAGGING)).expect("it waits long enough");
        assert_restores(&repo, &saved.snapshot, &describe(dir.path()));
        let _ = backup(&repo, dir.path()).expect("backups go on");
    }
}

#[test]
fn where_long_lists_leave_out_objects_nothing_is_ever_deleted() {
    let bench = Bench::new();
    let gaps = StoreFacts { lists_many: Some(false), ..SOUND };
    let _ = keep_facts(&bench.open(), gaps).expect("kept");
    let why = refused(collect(&bench.open(), &waiting(GRACE_LAGGING * 9)));
    assert!(why.contains("leave out objects"), "{why}");
}

#[test]
fn only_what_is_new_makes_a_configuration_and_a_failure_once_seen_stays() {
    let bench = Bench::new();
    let configs = || bench.names("config").len();
    assert_eq!((configs(), bench.open().config().store), (1, None));
    assert_eq!(keep_facts(&bench.open(), SOUND).expect("kept"), SOUND);
    assert_eq!((configs(), bench.open().config().sequence), (2, 2));
    let again = StoreFacts { tried: 99, ..SOUND };
    let recorded = std::sync::Arc::new(RecordStore::new(bench.store.clone()));
    let repo = open(recorded.clone(), bench.home.path()).expect("opens");
    assert_eq!(keep_facts(&repo, again).expect("known"), again);
    assert_eq!((configs(), recorded.count(CallKind::Put)), (2, 0));
    let lagging = StoreFacts { tried: 100, lists_written: false, ..SOUND };
    let _ = keep_facts(&bench.open(), lagging).expect("kept");
    assert_eq!(configs(), 3);
    let since = keep_facts(&bench.open(), StoreFacts { tried: 101, ..SOUND }).expect("known");
    assert!(!since.lists_written && configs() == 3);
    let repo = bench.open();
    assert_eq!(repo.config().store, Some(lagging));
}

#[test]
fn of_two_hosts_that_keep_something_at_once_the_second_is_told() {
    let bench = Bench::new();
    let (one, other) = (bench.open(), bench.other_host().open());
    let _ = keep_facts(&one, SOUND).expect("kept");
    let error = keep_facts(&other, StoreFacts { lists_written: false, ..SOUND });
    assert!(matches!(error, Err(RepoError::Refused(_))), "{error:?}");
    assert_eq!(bench.open().config().store, Some(SOUND));
}
