//! What an engine, or the way to it, means for the user: exit code and way out.

use volume_vault::docker::{DockerError, SshProblem, TlsProblem};

use super::{CliError, Kind};

impl From<DockerError> for CliError {
    fn from(error: DockerError) -> Self {
        match &error {
            DockerError::NoEngine { host, .. } => {
                let hint = match host.starts_with("unix://") {
                    true => {
                        "start it (`systemctl start docker`), or name another with `--host`, \
                         DOCKER_HOST or a docker context"
                    }
                    false => "see that the machine is up and that its address is right, and retry",
                };
                Self::wrap(Kind::Unreachable, error).hint(hint)
            }
            DockerError::Permission { host } => {
                let hint = match host.starts_with("ssh://") {
                    true => {
                        "log in there as root, or as a member of the group that owns the socket \
                         (`usermod -aG docker USER`)"
                    }
                    false => "run as root, or as a member of the group that owns the socket",
                };
                Self::wrap(Kind::Unreachable, error).hint(hint)
            }
            DockerError::Ssh { problem, .. } => {
                let hint = ssh_hint(*problem);
                Self::wrap(Kind::Failed, error).hint(hint)
            }
            DockerError::Tls { problem, .. } => {
                let hint = tls_hint(*problem);
                Self::wrap(Kind::Failed, error).hint(hint)
            }
            DockerError::Certificate { .. } => Self::wrap(Kind::Usage, error).hint(
                "`ca.pem`, `cert.pem` and `key.pem` belong into one folder: DOCKER_CERT_PATH, \
                 `cert_path` of [hosts.NAME], or that of the docker context",
            ),
            DockerError::NoHost { .. } => Self::wrap(Kind::Usage, error)
                .hint("write `ssh://USER@HOST`, or name it in [hosts.NAME] of the configuration"),
            DockerError::NoContext { .. }
            | DockerError::Config { .. }
            | DockerError::Unsupported(_) => Self::wrap(Kind::Usage, error),
            DockerError::NotFound { .. } => Self::wrap(Kind::NotFound, error),
            DockerError::Exists { .. } | DockerError::InUse { .. } => {
                Self::wrap(Kind::Refused, error)
            }
            DockerError::Interrupted { .. } => {
                Self::wrap(Kind::Unreachable, error).hint("nothing was acknowledged; run it again")
            }
            DockerError::Engine { .. } | DockerError::Input(_) => Self::wrap(Kind::Failed, error),
        }
    }
}

/// The way out where ssh needs a person.
fn ssh_hint(problem: SshProblem) -> &'static str {
    match problem {
        SshProblem::NoProgram => "install it (`apt install openssh-client`)",
        SshProblem::UnknownKey => {
            "log in once by hand with `ssh`, compare its key with that of the machine, accept it"
        }
        SshProblem::ChangedKey => {
            "find out why before anything else; if the machine was set up anew, `ssh-keygen -R \
             NAME` forgets its old key"
        }
        SshProblem::Login => {
            "nobody is ever asked here: put a key there (`ssh-copy-id`) or load it into ssh-agent, \
             until `ssh -o BatchMode=yes HOST true` works"
        }
        SshProblem::NoDocker => {
            "install the docker command there, and see that `ssh HOST docker version` finds it"
        }
        SshProblem::OldDocker => "update the docker command there to 18.09 or newer",
    }
}

/// The way out where TLS is in the way.
fn tls_hint(problem: TlsProblem) -> &'static str {
    match problem {
        TlsProblem::Untrusted => {
            "if it is the right machine, the certificate of its authority belongs into `ca.pem` \
             (in DOCKER_CERT_PATH, `cert_path` of [hosts.NAME], or the docker context)"
        }
        TlsProblem::OtherName => "use the name or address that the certificate was made for",
        TlsProblem::Refused => {
            "`cert.pem` and `key.pem` of a client that it knows belong into DOCKER_CERT_PATH, \
             `cert_path` of [hosts.NAME], or the docker context"
        }
        TlsProblem::NotSpoken => {
            "an engine listens with TLS on port 2376; without it, unset DOCKER_TLS_VERIFY"
        }
        TlsProblem::Wanted => {
            "set DOCKER_TLS_VERIFY=1 and DOCKER_CERT_PATH, or `cert_path` in [hosts.NAME]"
        }
    }
}
