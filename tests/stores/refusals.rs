//! What a store refuses: said at once, by name, without trying again.

use volume_vault::store::{Access, Store, StoreError};

use super::proxy::{Fault, Proxy};
use super::{fresh, name, open, payload, s3_access, s3_behind, s3_with, server, told};

fn s3_proxy() -> Proxy {
    Proxy::before(&server("VAULT_TEST_S3"))
}

#[test]
fn each_missing_right_is_named_and_not_tried_again() {
    let proxy = s3_proxy();
    proxy.next(9, "", "", Fault::s3(403, "AccessDenied"));
    let store = s3_behind(&proxy);
    let a = name("packs/a");
    let results = [
        (store.put(&a, &payload(b"x")), "refuses to write `packs/a`"),
        (store.get(&a, 9).map(drop), "refuses to read `packs/a`"),
        (store.list("packs").map(drop), "refuses to list `packs`"),
        (store.delete(&a), "refuses to delete `packs/a`"),
    ];
    for (result, text) in results {
        let error = result.expect_err(text);
        assert!(matches!(error, StoreError::Denied { .. }), "{error:?}");
        assert!(told(&error).contains(text), "{error}");
        assert!(told(&error).contains("403: AccessDenied"), "{error}");
    }
    assert_eq!(proxy.hits(), 4);
}

#[test]
fn whoever_may_not_look_at_an_object_finds_it_in_the_listing() {
    let proxy = s3_proxy();
    proxy.next(
        99,
        "HEAD",
        "",
        Fault::Answer { status: 403, headers: String::new(), body: String::new() },
    );
    let store = s3_behind(&proxy);
    store.put(&name("packs/aa1"), &payload(b"x")).expect("puts");
    store.put(&name("packs/aa2"), &payload(b"xy")).expect("puts");
    store.put(&name("top"), &payload(b"xyz")).expect("puts");
    assert!((1..=2).contains(&proxy.hits()), "{}", proxy.hits());
    let headers = "etag: \"0\"\r\n".to_owned();
    proxy.next(99, "PUT", "", Fault::Answer { status: 200, headers, body: String::new() });
    let error = store.put(&name("packs/aa3"), &payload(b"x")).expect_err("is lost");
    assert!(told(&error).contains("does not list it"), "{}", told(&error));
}

/// Credentials in a file that somebody renews.
fn renewable(proxy: &Proxy, home: &std::path::Path, key: &str) -> Access {
    std::fs::create_dir_all(home.join(".aws")).expect("made");
    let text = format!("[default]\naws_access_key_id = {key}\naws_secret_access_key = s3cret\n");
    std::fs::write(home.join(".aws/credentials"), text).expect("written");
    let mut access = s3_access(&proxy.url());
    for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"] {
        let _ = access.variables.remove(name);
    }
    access.home = Some(home.to_owned());
    access
}

#[test]
fn f053_credentials_that_expire_are_read_again() {
    let (proxy, home) = (s3_proxy(), tempfile::tempdir().expect("a directory"));
    let store = s3_with(&proxy, renewable(&proxy, home.path(), "FIRST"));
    store.put(&name("a"), &payload(b"x")).expect("puts");
    let _ = renewable(&proxy, home.path(), "SECOND");
    proxy.next(1, "PUT", "", Fault::s3(400, "ExpiredToken"));
    store.put(&name("b"), &payload(b"x")).expect("puts");
    assert_eq!(proxy.hits(), 1);
    let keys: Vec<_> = proxy.seen().iter().map(|seen| seen.authorization.clone()).collect();
    assert!(keys[0].contains("FIRST") && keys[2].contains("FIRST"), "{keys:?}");
    assert!(keys[3].contains("SECOND"), "{keys:?}");
}

#[test]
fn f053_credentials_that_stay_expired_are_refused_after_one_more_try() {
    let (proxy, home) = (s3_proxy(), tempfile::tempdir().expect("a directory"));
    let store = s3_with(&proxy, renewable(&proxy, home.path(), "FIRST"));
    proxy.next(99, "", "", Fault::s3(403, "ExpiredToken"));
    let error = store.put(&name("a"), &payload(b"x")).expect_err("is refused");
    assert!(told(&error).contains("ExpiredToken"), "{}", told(&error));
    assert!(matches!(error, StoreError::Denied { .. }), "{error:?}");
    assert_eq!(proxy.hits(), 2);
}

#[test]
fn f054_a_lock_on_an_object_is_told_from_a_missing_right() {
    let proxy = s3_proxy();
    let body = "<Error><Code>AccessDenied</Code><Message>Access Denied because object protected by \
                object lock.</Message></Error>";
    let body = body.to_owned();
    proxy.next(1, "DELETE", "", Fault::Answer { status: 403, headers: String::new(), body });
    let store = s3_behind(&proxy);
    store.put(&name("a"), &payload(b"x")).expect("puts");
    let error = store.delete(&name("a")).expect_err("is locked");
    assert!(matches!(error, StoreError::Locked { .. }), "{error:?}");
    assert!(told(&error).contains("has a lock on `a`"), "{error}");
    assert_eq!(proxy.hits(), 1);
}

#[test]
fn f055_a_bucket_that_is_missing_is_named_without_trying_again() {
    let proxy = s3_proxy();
    let access = s3_access(&proxy.url());
    let store = open(&format!("s3://no-such-{}/p", fresh()), &access);
    for result in [store.put(&name("a"), &payload(b"x")), store.list("").map(drop)] {
        let error = result.expect_err("has no bucket");
        assert!(matches!(error, StoreError::Location(_)), "{error:?}");
        assert!(error.to_string().contains("there is no bucket `no-such-"), "{error}");
    }
    assert_eq!(proxy.seen().len(), 2);
}

#[test]
fn f055_a_bucket_of_another_region_is_named_with_it() {
    let proxy = s3_proxy();
    let headers = "x-amz-bucket-region: eu-north-1\r\n".to_owned();
    let body = "<Error><Code>PermanentRedirect</Code></Error>".to_owned();
    proxy.next(1, "PUT", "", Fault::Answer { status: 301, headers, body });
    let error = s3_behind(&proxy).put(&name("a"), &payload(b"x")).expect_err("is elsewhere");
    assert_eq!(error.to_string(), "the bucket `vault` is in the region `eu-north-1`");
    assert_eq!((proxy.hits(), proxy.seen().len()), (1, 1));
}

#[test]
fn f057_a_store_that_is_full_is_told_as_a_disk_that_is() {
    for fault in [Fault::s3(403, "QuotaExceeded"), Fault::s3(507, "InsufficientStorage")] {
        let proxy = s3_proxy();
        proxy.next(1, "PUT", "", fault);
        let error = s3_behind(&proxy).put(&name("a"), &payload(b"x")).expect_err("is full");
        assert!(matches!(error, StoreError::NoSpace { .. }), "{error:?}");
        assert_eq!(proxy.hits(), 1);
    }
}

#[test]
fn f058_a_clock_that_is_wrong_is_explained() {
    let proxy = s3_proxy();
    let headers = "date: Fri, 01 Jan 2021 00:00:00 GMT\r\n".to_owned();
    let body = "<Error><Code>RequestTimeTooSkewed</Code></Error>".to_owned();
    proxy.next(1, "GET", "", Fault::Answer { status: 403, headers, body });
    let error = s3_behind(&proxy).list("").expect_err("is refused");
    let text = told(&error);
    assert!(
        text.contains("the clock of this machine is ") && text.contains(" days ahead"),
        "{text}"
    );
    assert_eq!(proxy.hits(), 1);
}

#[test]
fn f059_an_object_in_an_archive_is_told_as_such() {
    let proxy = s3_proxy();
    proxy.next(1, "GET", "", Fault::s3(403, "InvalidObjectState"));
    let error = s3_behind(&proxy).get(&name("a"), 9).expect_err("is archived");
    assert!(matches!(error, StoreError::Archived { .. }), "{error:?}");
    assert_eq!(proxy.hits(), 1);
}

#[test]
fn an_account_key_of_azure_that_is_wrong_is_refused_by_azure() {
    let mut access = super::azure_access(&server("VAULT_TEST_AZURE"));
    let _ = access.variables.insert("AZURE_STORAGE_KEY".to_owned(), "d3Jvbmc=".to_owned().into());
    let error = open("az://vault/x", &access).list("").expect_err("is refused");
    assert!(matches!(error, StoreError::Denied { .. }), "{error:?}");
    assert!(told(&error).contains("403"), "{}", told(&error));
}

#[test]
fn a_container_of_azure_that_is_missing_is_named() {
    let store = open("az://no-such/x", &super::azure_access(&server("VAULT_TEST_AZURE")));
    let error = store.put(&name("a"), &payload(b"x")).expect_err("has no container");
    assert_eq!(error.to_string(), "there is no container `no-such`");
}

#[test]
fn a_password_of_webdav_that_is_missing_is_refused() {
    let url = format!("{}/{}", server("VAULT_TEST_WEBDAV"), fresh());
    let error = open(&url, &super::access(&[])).list("").expect_err("is refused");
    assert!(matches!(error, StoreError::Denied { .. }), "{error:?}");
    assert!(told(&error).contains("401"), "{}", told(&error));
}
