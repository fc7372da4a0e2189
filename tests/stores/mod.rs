//! Stores elsewhere against real servers, which `tests/parts` starts, and with a proxy between
//! that misbehaves.
//!
//! Each server is named by a variable; without it the tests fail, since a skipped test proves
//! nothing. Every test works below a prefix of its own.

mod contract;
mod faults;
mod probing;
mod program;
mod proxy;
mod refusals;
mod sftp;
mod unreachable;

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use volume_vault::crypto::Payload;
use volume_vault::store::{Access, Location, ObjectName, Patience, RemoteStore, StoreError};

use self::proxy::Proxy;

/// The address of a server that must be there.
fn server(variable: &str) -> String {
    let found = std::env::vars().find(|(name, _)| name == variable);
    let (_, address) = found.unwrap_or_else(|| {
        panic!(
            "{variable} is not set: run `tests/run.sh`, or the script of `tests/parts` that \
                names it, with `up`, then eval what it prints with `env`"
        )
    });
    address
}

/// What never occurred before, for names.
fn fresh() -> String {
    static LAST: AtomicU32 = AtomicU32::new(0);
    format!("t{}-{}", std::process::id(), LAST.fetch_add(1, Ordering::Relaxed))
}

/// Waits little, so that tests of many attempts are quick.
fn hasty() -> Patience {
    Patience {
        pause: Duration::from_millis(2),
        pause_max: Duration::from_millis(20),
        budget: Duration::from_secs(20),
        ..Patience::default()
    }
}

fn access(variables: &[(&str, &str)]) -> Access {
    let pairs = variables.iter();
    let variables = pairs.map(|(name, value)| ((*name).to_owned(), (*value).to_owned().into()));
    Access { variables: variables.collect(), patience: hasty(), ..Access::default() }
}

/// What it takes to reach an S3 server.
fn s3_access(endpoint: &str) -> Access {
    access(&[
        ("AWS_ENDPOINT_URL", endpoint),
        ("AWS_ACCESS_KEY_ID", "key"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
        ("AWS_REGION", "us-east-1"),
    ])
}

fn azure_access(endpoint: &str) -> Access {
    access(&[
        ("AZURE_STORAGE_ACCOUNT", "vaulttest"),
        ("AZURE_STORAGE_KEY", &server("VAULT_TEST_AZURE_KEY")),
        ("AZURE_BLOB_ENDPOINT", endpoint),
    ])
}

fn open(url: &str, access: &Access) -> RemoteStore {
    match Location::parse(url, Path::new("/")) {
        Ok(Location::Remote(place)) => RemoteStore::open(&place, access).expect("it opens"),
        other => panic!("{url} is {other:?}"),
    }
}

/// A new prefix of the S3 server behind a proxy.
fn s3_behind(proxy: &Proxy) -> RemoteStore {
    s3_with(proxy, s3_access(&proxy.url()))
}

fn s3_with(_: &Proxy, access: Access) -> RemoteStore {
    open(&format!("s3://vault/{}", fresh()), &access)
}

fn name(text: &str) -> ObjectName {
    ObjectName::parse(text).expect("a name")
}

fn payload(bytes: &[u8]) -> Payload {
    Payload::public(bytes.to_vec())
}

/// An error with its cause.
fn told(error: &StoreError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
