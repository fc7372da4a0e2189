//! Credentials where the ecosystem keeps them: the files of the AWS tools, and netrc.
//!
//! The environment comes first; what a store's own library finds by itself (roles of containers
//! and machines) comes last. Nothing read here is ever shown.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::store::{Access, StoreError};

/// Longest file of credentials read, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Settings of one profile of the AWS tools.
pub(super) type Profile = BTreeMap<String, Zeroizing<String>>;

/// Reads the profile in force from `~/.aws/config` and `~/.aws/credentials`; the latter counts
/// more. Without a file it is empty.
///
/// Errors: `Location`, if `AWS_PROFILE` names none, or one that needs another program to log in.
pub(super) fn aws_profile(access: &Access) -> Result<Profile, StoreError> {
    let named = access.variable("AWS_PROFILE").or(access.variable("AWS_DEFAULT_PROFILE"));
    let name = named.unwrap_or("default");
    let file = |variable: &str, base: &str| {
        let given = access.variable(variable).map(PathBuf::from);
        given.or_else(|| Some(access.home.as_ref()?.join(".aws").join(base)))
    };
    let mut profile = Profile::new();
    let mut found = false;
    for (variable, base, heading) in [
        ("AWS_CONFIG_FILE", "config", format!("profile {name}")),
        ("AWS_SHARED_CREDENTIALS_FILE", "credentials", name.to_owned()),
    ] {
        let Some(path) = file(variable, base) else { continue };
        let text = read(&path)?;
        for section in [heading.as_str(), name] {
            found |= settings(&text, section, &mut profile);
        }
    }
    if named.is_some() && !found {
        return Err(StoreError::Location(format!(
            "AWS_PROFILE names `{name}`, which is in no file"
        )));
    }
    let complete = profile.contains_key("aws_access_key_id");
    let needs = ["credential_process", "sso_session", "sso_start_url", "source_profile"];
    match needs.iter().find(|key| profile.contains_key(**key)) {
        Some(key) if !complete => Err(StoreError::Location(format!(
            "the AWS profile `{name}` is of a kind that is not supported (`{key}`)"
        ))),
        _ => Ok(profile),
    }
}

/// Reads `[section]` of an ini file into `into`; tells whether it is there.
fn settings(text: &str, section: &str, into: &mut Profile) -> bool {
    let (mut inside, mut found) = (false, false);
    for line in text.lines() {
        let bare = line.trim();
        if let Some(heading) = bare.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            inside = heading.trim() == section;
            found |= inside;
        } else if inside
            && !line.starts_with([' ', '\t', '#', ';'])
            && let Some((key, value)) = bare.split_once('=')
        {
            let value = Zeroizing::new(value.trim().to_owned());
            let _ = into.insert(key.trim().to_ascii_lowercase(), value);
        }
    }
    found
}

/// Login and password for a host from the file `NETRC` names, else `~/.netrc`.
pub(super) fn netrc(
    access: &Access,
    host: &str,
    user: Option<&str>,
) -> Result<Option<(String, Zeroizing<String>)>, StoreError> {
    let given = access.variable("NETRC").map(PathBuf::from);
    let Some(path) = given.or_else(|| Some(access.home.as_ref()?.join(".netrc"))) else {
        return Ok(None);
    };
    let text = read(&path)?;
    Ok(entry(&text, host, user))
}

fn entry(text: &str, host: &str, user: Option<&str>) -> Option<(String, Zeroizing<String>)> {
    let mut words = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    let mut words = words.by_ref().flat_map(str::split_whitespace);
    let (mut here, mut login, mut password) = (false, None, None);
    let fits = |login: &Option<String>| user.is_none() || user == login.as_deref();
    let whole = |login: &mut Option<String>, password: &mut Option<Zeroizing<String>>| {
        Some((login.take()?, password.take()?))
    };
    while let Some(word) = words.next() {
        match word {
            "machine" | "default" => {
                if here && fits(&login) && password.is_some() {
                    break;
                }
                here = word == "default" || words.next() == Some(host);
                (login, password) = (None, None);
            }
            "login" if here => login = words.next().map(str::to_owned),
            "password" if here => {
                password = words.next().map(|word| Zeroizing::new(word.to_owned()));
            }
            _ => {}
        }
    }
    match here && fits(&login) {
        true => whole(&mut login, &mut password),
        false => None,
    }
}

fn read(path: &Path) -> Result<Zeroizing<String>, StoreError> {
    let failed = |source: io::Error| StoreError::Io {
        action: "read credentials".to_owned(),
        location: path.display().to_string(),
        source,
    };
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Zeroizing::default()),
        file => file.map_err(failed)?,
    };
    let mut text = Zeroizing::new(String::new());
    let _ = file.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(failed)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(home: &Path, variables: &[(&str, &str)]) -> Access {
        let pairs = variables.iter();
        Access {
            home: Some(home.to_owned()),
            variables: pairs.map(|(k, v)| ((*k).to_owned(), (*v).to_owned().into())).collect(),
            ..Access::default()
        }
    }

    #[test]
    fn the_profile_in_force_is_read_and_credentials_count_more() {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(dir.path().join(".aws")).expect("made");
        let write = |base: &str, text: &str| {
            std::fs::write(dir.path().join(".aws").join(base), text).expect("written");
        };
        write(
            "config",
            "[default]\nregion = eu-1\ns3 =\n  addressing_style = path\n\
             [profile two]\nregion=eu-2\naws_access_key_id = old\n[profile sso]\nsso_session = x\n",
        );
        write(
            "credentials",
            "# a = b\n[default]\naws_access_key_id = one\n[two]\naws_access_key_id=new",
        );
        let of = |variables: &[(&str, &str)]| aws_profile(&access(dir.path(), variables));
        let profile = of(&[]).expect("reads");
        assert_eq!(
            (profile["region"].as_str(), profile["aws_access_key_id"].as_str()),
            ("eu-1", "one")
        );
        assert!(!profile.contains_key("addressing_style"));
        let profile = of(&[("AWS_PROFILE", "two")]).expect("reads");
        assert_eq!(
            (profile["region"].as_str(), profile["aws_access_key_id"].as_str()),
            ("eu-2", "new")
        );
        for wrong in ["three", "sso"] {
            let error = of(&[("AWS_PROFILE", wrong)]).expect_err(wrong).to_string();
            assert!(error.contains(wrong), "{error}");
        }
        let empty = tempfile::tempdir().expect("a directory");
        assert!(aws_profile(&access(empty.path(), &[])).expect("nothing").is_empty());
    }

    #[test]
    fn a_login_is_found_by_host_and_by_user() {
        let text = "machine a login x password 1\nmachine b\n login y\n password 2\n\
                    # machine c login no password no\nmachine b login z password 3 default login d \
                    password 4";
        let found = |host, user| entry(text, host, user).map(|(l, p)| format!("{l}:{}", *p));
        assert_eq!(found("a", None).as_deref(), Some("x:1"));
        assert_eq!(found("b", None).as_deref(), Some("y:2"));
        assert_eq!(found("b", Some("z")).as_deref(), Some("z:3"));
        assert_eq!(found("c", None).as_deref(), Some("d:4"));
        assert_eq!(found("a", Some("nobody")), None);
    }
}
