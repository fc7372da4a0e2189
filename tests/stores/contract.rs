//! Every kind of store keeps the contract, on a real server.

use volume_vault::clock::Clock;
use volume_vault::store::{Store, contract, probe};

use super::{access, azure_access, fresh, open, s3_access, server};

fn keeps_the_contract(store: &dyn Store) {
    contract::check(store).expect("keeps the contract");
    let found = probe(store, Clock::System).expect("can be tried");
    assert!(found.is_sound() && found.clock_ahead.abs() < 60, "{found:?}");
    assert!(store.list("probe").expect("lists").is_empty());
}

#[test]
fn s3_keeps_the_contract() {
    let access = s3_access(&server("VAULT_TEST_S3"));
    keeps_the_contract(&open(&format!("s3://vault/{}/deeper", fresh()), &access));
}

/// A server that checks signatures; the tests of every day do without it.
#[test]
#[ignore = "needs a Ceph gateway: see docs/testing.md"]
fn ceph_keeps_the_contract() {
    let mut access = s3_access(&server("VAULT_TEST_S3_CEPH"));
    for (name, variable) in [
        ("AWS_ACCESS_KEY_ID", "VAULT_TEST_S3_CEPH_ID"),
        ("AWS_SECRET_ACCESS_KEY", "VAULT_TEST_S3_CEPH_SECRET"),
    ] {
        let _ = access.variables.insert(name.to_owned(), server(variable).into());
    }
    keeps_the_contract(&open(&format!("s3://vault/{}", fresh()), &access));
}

#[test]
fn azure_keeps_the_contract() {
    let access = azure_access(&server("VAULT_TEST_AZURE"));
    keeps_the_contract(&open(&format!("az://vault/{}", fresh()), &access));
}

/// The emulators that can be had lack the interface Google calls XML and `object_store` uses. It
/// is that of S3 as far as we need it, so an S3 server stands in; a bucket of Google's own has
/// not been tried.
#[test]
fn the_client_for_google_keeps_the_contract_on_an_s3_server() {
    let endpoint = server("VAULT_TEST_S3");
    let access = access(&[("GOOGLE_BASE_URL", &endpoint), ("GOOGLE_BEARER_TOKEN", "token")]);
    keeps_the_contract(&open(&format!("gs://vault/{}", fresh()), &access));
}

#[test]
fn webdav_keeps_the_contract() {
    let home = tempfile::tempdir().expect("a directory");
    let netrc = "machine 127.0.0.1 login u password p\n";
    std::fs::write(home.path().join(".netrc"), netrc).expect("written");
    let mut access = access(&[]);
    access.home = Some(home.path().to_owned());
    let url = format!("{}/{}/in a folder", server("VAULT_TEST_WEBDAV"), fresh());
    keeps_the_contract(&open(&url, &access));
}

#[test]
fn webdav_of_apache_keeps_the_contract() {
    let url = format!("{}/{}", server("VAULT_TEST_WEBDAV_APACHE"), fresh());
    keeps_the_contract(&open(&url, &access(&[])));
}
