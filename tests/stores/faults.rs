//! What may go wrong between a store and us, and is over soon: it shows in no result.

use std::sync::atomic::Ordering;
use std::time::Duration;

use volume_vault::store::{Access, RemoteStore, Store, StoreError};

use super::proxy::{Fault, Proxy};
use super::{
    access, fresh, hasty, name, open, payload, s3_access, s3_behind, s3_with, server, told,
};

fn s3_proxy() -> Proxy {
    Proxy::before(&server("VAULT_TEST_S3"))
}

/// Every kind of call once, with its result checked.
fn all_calls(store: &RemoteStore) {
    let (one, two) = (name("f/one"), name("f/two"));
    store.put(&one, &payload(b"0123456789")).expect("puts");
    store.put(&two, &payload(&[7; 100_000])).expect("puts");
    assert_eq!(store.get(&one, 10).expect("gets"), b"0123456789");
    let mut part = [0; 4];
    store.get_range(&one, 3, &mut part).expect("gets");
    assert_eq!(&part, b"3456");
    let listed = store.list("f").expect("lists");
    let sizes: Vec<_> = listed.iter().map(|object| (object.name.as_str(), object.size)).collect();
    assert_eq!(sizes, [("f/one", 10), ("f/two", 100_000)]);
    store.delete(&one).expect("deletes");
    assert!(matches!(store.get(&one, 10), Err(StoreError::NotFound(_))));
    store.delete(&two).expect("deletes");
}

#[test]
fn f036_a_failure_of_the_server_at_any_request_is_retried() {
    let proxy = s3_proxy();
    all_calls(&s3_behind(&proxy));
    let requests = u32::try_from(proxy.seen().len()).expect("a few");
    assert!(requests >= 10, "{requests}");
    for status in [500, 502, 503] {
        for at in 0..requests {
            let proxy = s3_proxy();
            // A rule that changes nothing counts the requests before.
            proxy.next(at, "", "", Fault::Late(Duration::ZERO));
            proxy.next(1, "", "", Fault::s3(status, "InternalError"));
            all_calls(&s3_behind(&proxy));
            assert_eq!(proxy.hits(), at + 1, "{status} at {at}");
        }
    }
}

#[test]
fn f037_a_storm_of_slow_down_is_sat_out() {
    let proxy = s3_proxy();
    proxy.next(40, "", "", Fault::s3(503, "SlowDown"));
    all_calls(&s3_behind(&proxy));
    assert_eq!(proxy.hits(), 40);
}

#[test]
fn f037_pauses_grow_with_each_failure() {
    let proxy = s3_proxy();
    proxy.next(5, "PUT", "", Fault::s3(503, "SlowDown"));
    let mut access = s3_access(&proxy.url());
    access.patience.pause = Duration::from_millis(20);
    access.patience.pause_max = Duration::from_millis(320);
    s3_with(&proxy, access).put(&name("a"), &payload(b"x")).expect("puts");
    let seen = proxy.seen();
    for (failed, pair) in seen.windows(2).take(5).enumerate() {
        let least = Duration::from_millis(10 << failed);
        assert!(pair[1].at - pair[0].at >= least, "after failure {failed}");
    }
    assert_eq!(proxy.hits(), 5);
}

#[test]
fn f038_the_pause_that_a_store_asks_for_is_kept() {
    let proxy = s3_proxy();
    let headers = "retry-after: 1\r\n".to_owned();
    proxy.next(1, "PUT", "", Fault::Answer { status: 429, headers, body: String::new() });
    s3_behind(&proxy).put(&name("a"), &payload(b"x")).expect("puts");
    let seen = proxy.seen();
    assert!(seen[1].at - seen[0].at >= Duration::from_secs(1));
    assert_eq!(proxy.hits(), 1);
}

#[test]
fn f039_an_error_inside_a_success_is_an_error() {
    let proxy = s3_proxy();
    let Fault::Answer { body, .. } = Fault::s3(500, "InternalError") else { unreachable!() };
    let headers = "etag: \"0\"\r\n".to_owned();
    proxy.next(1, "PUT", "", Fault::Answer { status: 200, headers, body });
    let store = s3_behind(&proxy);
    store.put(&name("a"), &payload(b"abc")).expect("puts");
    assert_eq!(store.get(&name("a"), 9).expect("gets"), b"abc");
    // Noticed at once, without looking for the object first.
    let methods: Vec<_> = proxy.seen().into_iter().map(|seen| seen.method).collect();
    assert_eq!(methods, ["PUT", "PUT", "HEAD", "GET"]);
}

#[test]
fn f040_a_lost_reply_to_any_request_is_harmless() {
    for method in ["PUT", "HEAD", "GET", "DELETE"] {
        let proxy = s3_proxy();
        proxy.next(2, method, "", Fault::LoseReply);
        all_calls(&s3_behind(&proxy));
        assert_eq!(proxy.hits(), 2, "{method}");
    }
}

#[test]
fn f041_a_put_that_comes_twice_and_late_is_harmless() {
    let proxy = s3_proxy();
    proxy.next(1, "PUT", "", Fault::Repeat);
    let store = s3_behind(&proxy);
    store.put(&name("a"), &payload(b"abc")).expect("puts");
    store.put(&name("b"), &payload(b"def")).expect("puts");
    assert_eq!(proxy.deliver(), 1);
    assert_eq!(store.get(&name("a"), 9).expect("gets"), b"abc");
    assert_eq!(store.list("").expect("lists").len(), 2);
}

#[test]
fn f042_a_delete_that_comes_after_everything_else_hits_nothing_newer() {
    let proxy = s3_proxy();
    proxy.next(1, "DELETE", "", Fault::Postpone);
    let store = s3_behind(&proxy);
    store.put(&name("old"), &payload(b"abc")).expect("puts");
    store.delete(&name("old")).expect("deletes");
    store.put(&name("new"), &payload(b"def")).expect("puts");
    assert_eq!(proxy.deliver(), 1);
    let listed = store.list("").expect("lists");
    assert_eq!(listed.iter().map(|o| o.name.as_str()).collect::<Vec<_>>(), ["new"]);
}

#[test]
fn f043_an_acknowledged_object_that_is_not_there_fails_the_put() {
    let proxy = s3_proxy();
    let headers = "etag: \"0\"\r\n".to_owned();
    proxy.next(99, "PUT", "", Fault::Answer { status: 200, headers, body: String::new() });
    let error = s3_behind(&proxy).put(&name("a"), &payload(b"abc")).expect_err("is lost");
    assert!(matches!(error, StoreError::Io { .. }), "{error}");
    let text = told(&error);
    assert!(text.contains("acknowledged `a`, but does not have it (tried 4 times)"), "{text}");
    assert_eq!(proxy.hits(), 4);
}

#[test]
fn f044_half_an_object_under_its_name_is_found_and_put_again() {
    let proxy = s3_proxy();
    proxy.next(1, "PUT", "", Fault::CutRequest(50_000));
    let store = s3_behind(&proxy);
    store.put(&name("a"), &payload(&[3; 100_000])).expect("puts");
    assert_eq!(store.get(&name("a"), 100_000).expect("gets"), [3; 100_000]);
    assert_eq!((proxy.hits(), proxy.count("PUT")), (1, 2));
}

#[test]
fn f045_an_answer_that_is_cut_is_asked_for_again() {
    let bytes: Vec<u8> = (0..200_000_u32).map(|n| n.to_le_bytes()[1]).collect();
    for fault in [Fault::CutReply(70_000), Fault::CutReply(0), Fault::ShortenReply(1000)] {
        let proxy = s3_proxy();
        let store = s3_behind(&proxy);
        store.put(&name("a"), &payload(&bytes)).expect("puts");
        let mut part = vec![0; 150_000];
        // A whole object that says it is shorter than it is can only be found out by its hash.
        if !matches!(fault, Fault::ShortenReply(_)) {
            proxy.next(1, "GET", "", fault.clone());
            assert!(store.get(&name("a"), 200_000).expect("gets") == bytes);
            assert_eq!(proxy.hits(), 1);
        }
        proxy.clear();
        proxy.next(1, "GET", "", fault);
        store.get_range(&name("a"), 20_000, &mut part).expect("gets");
        assert!(part == bytes[20_000..170_000]);
        assert_eq!(proxy.hits(), 1);
    }
}

#[test]
fn f045_a_listing_that_is_cut_is_asked_for_again() {
    for fault in [Fault::CutReply(200), Fault::ShortenReply(100)] {
        let proxy = s3_proxy();
        let store = s3_behind(&proxy);
        for text in ["a", "b", "c"] {
            store.put(&name(text), &payload(b"x")).expect("puts");
        }
        proxy.next(1, "GET", "list-type=2", fault);
        assert_eq!(store.list("").expect("lists").len(), 3);
        assert_eq!(proxy.hits(), 1);
    }
}

#[test]
fn f046_a_whole_object_instead_of_a_range_is_cut_to_it() {
    let proxy = s3_proxy();
    let store = s3_behind(&proxy);
    let bytes: Vec<u8> = (0..300_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    store.put(&name("a"), &payload(&bytes)).expect("puts");
    proxy.next(9, "GET", "", Fault::HideRange);
    for (from, to) in [(0, 1), (5, 100_005), (299_999, 300_000), (0, 300_000)] {
        let mut part = vec![0; to - from];
        store.get_range(&name("a"), from as u64, &mut part).expect("gets");
        assert!(part == bytes[from..to], "{from}..{to}");
    }
    let error = store.get_range(&name("a"), 299_999, &mut [0; 2]).expect_err("is too short");
    assert!(matches!(error, StoreError::Size { actual: 300_000, .. }), "{error}");
    assert_eq!(proxy.hits(), 5);
}

#[test]
fn f049_a_listing_out_of_order_and_with_duplicates_is_put_right() {
    /// Turns the objects of a page around and lists the first twice.
    fn shuffle(page: &str) -> String {
        let start = page.find("<Contents>").expect("objects");
        let end = page.rfind("</Contents>").expect("objects") + "</Contents>".len();
        let parts = page[start..end].split_inclusive("</Contents>");
        let mut all: Vec<_> = parts.collect();
        all.reverse();
        all.push(all[0]);
        format!("{}{}{}", &page[..start], all.concat(), &page[end..])
    }
    let proxy = s3_proxy();
    let store = s3_behind(&proxy);
    for text in ["a", "b/c", "b/d", "e"] {
        store.put(&name(text), &payload(b"x")).expect("puts");
    }
    proxy.next(1, "GET", "list-type=2", Fault::Rewrite(shuffle));
    let listed = store.list("").expect("lists");
    let names: Vec<_> = listed.iter().map(|object| object.name.as_str()).collect();
    assert_eq!(names, ["a", "b/c", "b/d", "e"]);
    assert_eq!(proxy.hits(), 1);
}

#[test]
fn f050_a_conflict_of_two_puts_is_retried() {
    let proxy = s3_proxy();
    proxy.next(2, "PUT", "", Fault::s3(409, "ConditionalRequestConflict"));
    s3_behind(&proxy).put(&name("a"), &payload(b"x")).expect("puts");
    assert_eq!(proxy.hits(), 2);
}

#[test]
fn f051_a_move_that_had_worked_is_recognised_as_ours() {
    let proxy = Proxy::before(&server("VAULT_TEST_WEBDAV_APACHE"));
    let store = open(&format!("{}/{}", proxy.url(), fresh()), &access(&[]));
    proxy.next(1, "MOVE", "", Fault::LoseReply);
    store.put(&name("f/a"), &payload(b"abc")).expect("puts");
    assert_eq!(store.get(&name("f/a"), 3).expect("gets"), b"abc");
    assert_eq!((proxy.hits(), proxy.count("MOVE")), (1, 2));
    // Other bytes of the same name are replaced.
    store.put(&name("f/a"), &payload(b"xyz")).expect("puts");
    assert_eq!(store.get(&name("f/a"), 3).expect("gets"), b"xyz");
    assert_eq!(store.list("").expect("lists").len(), 1);
}

#[test]
fn f044_half_a_put_to_webdav_shows_in_no_listing() {
    let proxy = Proxy::before(&server("VAULT_TEST_WEBDAV_APACHE"));
    let store = open(&format!("{}/{}", proxy.url(), fresh()), &access(&[]));
    store.put(&name("f/a"), &payload(b"abc")).expect("puts");
    // The half stays: its removal is lost too.
    proxy.next(1, "PUT", "", Fault::CutRequest(10));
    proxy.next(99, "MOVE", "", Fault::s3(403, "no"));
    proxy.next(99, "DELETE", "", Fault::s3(403, "no"));
    let _ = store.put(&name("f/b"), &payload(&[1; 1000])).expect_err("fails");
    assert!(proxy.hits() >= 3);
    let listed = store.list("").expect("lists");
    assert_eq!(listed.iter().map(|o| o.name.as_str()).collect::<Vec<_>>(), ["f/a"]);
    assert!(matches!(store.get(&name("f/b"), 1000), Err(StoreError::NotFound(_))));
}

fn patient(proxy: &Proxy, change: impl FnOnce(&mut Access)) -> RemoteStore {
    let mut access = s3_access(&proxy.url());
    change(&mut access);
    s3_with(proxy, access)
}

#[test]
fn f060_a_store_that_stays_down_is_given_up_with_what_it_said() {
    let proxy = s3_proxy();
    proxy.next(u32::MAX, "", "", Fault::s3(503, "ServiceUnavailable"));
    let store = patient(&proxy, |access| access.patience.budget = Duration::from_millis(100));
    let error = store.put(&name("a"), &payload(b"x")).expect_err("is down");
    assert!(matches!(error, StoreError::Io { .. }), "{error}");
    let text = told(&error);
    assert!(text.contains("write `a`") && text.contains("503: ServiceUnavailable"), "{text}");
    assert!(proxy.hits() > 2, "{}", proxy.hits());
}

#[test]
fn f061_a_reset_while_sending_is_retried() {
    let proxy = s3_proxy();
    proxy.next(2, "PUT", "", Fault::Reset);
    let store = s3_behind(&proxy);
    store.put(&name("a"), &payload(&[9; 3_000_000])).expect("puts");
    assert_eq!(store.get(&name("a"), 3_000_000).expect("gets"), [9; 3_000_000]);
    assert_eq!(proxy.hits(), 2);
}

#[test]
fn f062_a_connection_over_which_nothing_moves_is_left() {
    let proxy = s3_proxy();
    proxy.next(1, "PUT", "", Fault::Silence);
    proxy.next(1, "GET", "", Fault::Silence);
    let store = patient(&proxy, |access| access.patience.idle = Duration::from_millis(300));
    store.put(&name("a"), &payload(b"abc")).expect("puts");
    assert_eq!(store.get(&name("a"), 3).expect("gets"), b"abc");
    assert_eq!(proxy.hits(), 2);
}

#[test]
fn f065_what_is_slow_but_moves_is_waited_for() {
    let proxy = s3_proxy();
    proxy.next(99, "", "", Fault::Late(Duration::from_millis(50)));
    // The whole takes longer than nothing may move.
    let store = patient(&proxy, |access| {
        access.patience.idle = Duration::from_millis(500);
        access.upload_rate = Some(200_000);
    });
    store.put(&name("a"), &payload(&[1; 300_000])).expect("puts");
    assert_eq!((proxy.hits(), proxy.count("PUT")), (2, 1));
}

#[test]
fn a_signal_ends_all_waiting() {
    let proxy = s3_proxy();
    proxy.next(u32::MAX, "", "", Fault::s3(503, "SlowDown"));
    let store = patient(&proxy, |access| {
        access.patience = hasty();
        access.interrupted.store(true, Ordering::Relaxed);
    });
    let error = store.list("").expect_err("is stopped");
    let StoreError::Io { source, .. } = &error else { panic!("{error}") };
    assert_eq!(source.kind(), std::io::ErrorKind::Interrupted);
}
