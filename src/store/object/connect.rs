//! From a place and what it takes to reach it to a client of `object_store`.

use std::sync::Arc;

use http::header::HeaderValue;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::http::HttpBuilder;
use object_store::{ObjectStore, RetryConfig};
use zeroize::Zeroizing;

use super::credentials::{aws_profile, netrc};
use super::place::{Kind, Place};
use super::wire::Wire;
use crate::store::{Access, StoreError};

/// Makes a client, with credentials as they are now.
///
/// Errors: `Location`, if they are incomplete or make no sense.
pub(super) fn connect(
    place: &Place,
    access: &Access,
    wire: &Wire,
) -> Result<Arc<dyn ObjectStore>, StoreError> {
    match place.kind {
        Kind::S3 => s3(place, access, wire),
        Kind::Azure => azure(place, access, wire),
        Kind::Gcs => gcs(place, access, wire),
        Kind::Dav => {
            let store = HttpBuilder::new()
                // Listings name paths of the server, not of a folder, so its root is the base.
                .with_url(format!("{}/", place.origin()))
                .with_retry(once())
                .with_http_connector(wire.clone())
                .build();
            Ok(Arc::new(store.map_err(|error| refused(place, &error))?))
        }
    }
}

/// What to send as `Authorization` to a WebDAV server.
pub(super) fn basic(place: &Place, access: &Access) -> Result<Option<HeaderValue>, StoreError> {
    let (Kind::Dav, user) = (place.kind, place.user.as_deref()) else { return Ok(None) };
    match netrc(access, place.host(), user)? {
        Some((login, password)) => {
            let pair = Zeroizing::new(format!("{login}:{}", *password));
            let encoded = Zeroizing::new(format!("Basic {}", base64(pair.as_bytes())));
            let header = HeaderValue::from_str(&encoded).map(|mut value| {
                value.set_sensitive(true);
                value
            });
            Ok(header.ok())
        }
        None => match user {
            Some(user) => Err(StoreError::Location(format!(
                "there is no password for `{user}` at `{}` in the netrc file",
                place.host()
            ))),
            None => Ok(None),
        },
    }
}

/// All retrying is ours: only we know what a failed call is worth and for how long.
fn once() -> RetryConfig {
    RetryConfig { max_retries: 0, ..RetryConfig::default() }
}

fn s3(place: &Place, access: &Access, wire: &Wire) -> Result<Arc<dyn ObjectStore>, StoreError> {
    const KEYS: [&str; 3] = ["aws_access_key_id", "aws_secret_access_key", "aws_session_token"];
    let mut builder = AmazonS3Builder::new();
    let profile = aws_profile(access)?;
    let own_keys = access.variable("AWS_ACCESS_KEY_ID").is_some();
    for (key, value) in &profile {
        let wanted = matches!(key.as_str(), "region" | "endpoint_url")
            || (KEYS.contains(&key.as_str()) && !own_keys);
        if let (true, Ok(key)) = (wanted, key.parse()) {
            builder = builder.with_config(key, value.as_str());
        }
    }
    // A region that is set wins over the default one, in whatever order they come.
    for (name, value) in &access.variables {
        let key = name.to_ascii_lowercase();
        if !key.starts_with("aws_") {
            continue;
        }
        match key.parse() {
            Ok(AmazonS3ConfigKey::Bucket | AmazonS3ConfigKey::Client(_)) | Err(_) => {}
            Ok(AmazonS3ConfigKey::DefaultRegion) if access.variable("AWS_REGION").is_some() => {}
            Ok(AmazonS3ConfigKey::DefaultRegion) => {
                builder = builder.with_region(value.as_str());
            }
            Ok(key) => builder = builder.with_config(key, value.as_str()),
        }
    }
    let elsewhere = profile.contains_key("endpoint_url")
        || access.variables.keys().any(|name| name.starts_with("AWS_ENDPOINT"));
    if access.variable("AWS_VIRTUAL_HOSTED_STYLE_REQUEST").is_none() {
        let plain = !place.container.contains('.');
        builder = builder.with_virtual_hosted_style_request(!elsewhere && plain);
    }
    let store = builder
        .with_bucket_name(&place.container)
        .with_disable_bulk_delete(true)
        .with_retry(once())
        .with_http_connector(wire.clone())
        .build();
    Ok(Arc::new(store.map_err(|error| refused(place, &error))?))
}

fn azure(place: &Place, access: &Access, wire: &Wire) -> Result<Arc<dyn ObjectStore>, StoreError> {
    let mut builder = MicrosoftAzureBuilder::new();
    let connection = access.variable("AZURE_STORAGE_CONNECTION_STRING").unwrap_or_default();
    for pair in connection.split(';') {
        let (name, value) = pair.split_once('=').unwrap_or_default();
        let key = match name.trim() {
            "AccountName" => AzureConfigKey::AccountName,
            "AccountKey" => AzureConfigKey::AccessKey,
            "BlobEndpoint" => AzureConfigKey::Endpoint,
            "SharedAccessSignature" => AzureConfigKey::SasKey,
            _ => continue,
        };
        builder = builder.with_config(key, value);
    }
    for (name, value) in &access.variables {
        let key = match name.as_str() {
            // As the vendor's own command calls them.
            "AZURE_STORAGE_ACCOUNT" => Ok(AzureConfigKey::AccountName),
            "AZURE_STORAGE_KEY" => Ok(AzureConfigKey::AccessKey),
            "AZURE_BLOB_ENDPOINT" => Ok(AzureConfigKey::Endpoint),
            name if name.starts_with("AZURE_") => name.to_ascii_lowercase().parse(),
            _ => continue,
        };
        match key {
            Ok(AzureConfigKey::ContainerName | AzureConfigKey::Client(_)) | Err(_) => {}
            Ok(key) => builder = builder.with_config(key, value.as_str()),
        }
    }
    let store = builder
        .with_container_name(&place.container)
        .with_allow_http(true)
        .with_retry(once())
        .with_http_connector(wire.clone())
        .build();
    Ok(Arc::new(store.map_err(|error| refused(place, &error))?))
}

fn gcs(place: &Place, access: &Access, wire: &Wire) -> Result<Arc<dyn ObjectStore>, StoreError> {
    let mut builder = GoogleCloudStorageBuilder::new();
    if let Some(host) = access.variable("STORAGE_EMULATOR_HOST") {
        let url = if host.contains("://") { host.to_owned() } else { format!("http://{host}") };
        builder = builder.with_config(GoogleConfigKey::BaseUrl, url);
        builder = builder.with_config(GoogleConfigKey::SkipSignature, "true");
    }
    for (name, value) in &access.variables {
        let key = name.to_ascii_lowercase();
        if !key.starts_with("google_") {
            continue;
        }
        match key.parse() {
            Ok(GoogleConfigKey::Bucket | GoogleConfigKey::Client(_)) | Err(_) => {}
            Ok(key) => builder = builder.with_config(key, value.as_str()),
        }
    }
    let store = builder
        .with_bucket_name(&place.container)
        .with_retry(once())
        .with_http_connector(wire.clone())
        .build();
    Ok(Arc::new(store.map_err(|error| refused(place, &error))?))
}

/// What a builder refuses is a setting. Its own text may repeat it, so only the innermost reason
/// is told where it names no value.
fn refused(place: &Place, error: &object_store::Error) -> StoreError {
    let mut text = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        text = cause.to_string();
        next = cause.source();
    }
    let safe = ["Missing", "missing", "must be specified"].iter().any(|word| text.contains(word));
    let why = if safe { text } else { "a setting in the environment makes no sense".to_owned() };
    StoreError::Location(format!("cannot use `{place}`: {why}"))
}

/// Standard base64 with padding, of which only this header has need.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let at = |index: usize| u32::from(group.get(index).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for digit in 0..4 {
            let value = bits >> (18 - 6 * digit) & 63;
            let shown = DIGITS.get(value as usize).copied().unwrap_or(b'=');
            text.push(if digit <= group.len() { char::from(shown) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_as_others_write_it() {
        for (bytes, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v")] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
        assert_eq!(base64(&[0xfb, 0xff, 0xfe]), "+//+");
    }
}
