//! Connections to an engine, of every kind, behind one HTTP client.
//!
//! No limit is set on how long a transfer takes. A peer that is gone is noticed by its silence: by
//! keepalive over TCP, by ssh's own questions over ssh. [`Dialer::moved`] counts the bytes that
//! moved, for those who wait. Nothing that was started outlives the dialer.

mod failure;
mod ssh;
mod tls;

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bollard::{BollardRequest, Docker};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::client::TlsStream;

pub(super) use self::failure::DialError;
use self::ssh::{SshLink, SshLinks};
use self::tls::{Nameless, Tls};
use super::error::DockerError;
use super::host::{Address, Host};

/// How long it may take until a connection stands.
const CONNECT_MAX: Duration = Duration::from_secs(30);

/// After so many seconds of silence a peer is asked whether it is still there...
const SILENCE_SECONDS: u64 = 15;

/// ...and after so many questions without an answer it is gone.
const QUESTIONS_MAX: u32 = 4;

/// Connections without work that are kept for the next request; a unix socket costs nothing.
const IDLE_LINKS_MAX: usize = 2;

/// Makes connections to one engine; clones share them.
#[derive(Clone)]
pub(super) struct Dialer {
    host: Host,
    tls: Option<Tls>,
    links: SshLinks,
    moved: Arc<AtomicU64>,
}

impl Dialer {
    /// A dialer for the engine at `host`; makes no connection yet.
    ///
    /// Errors: [`DockerError::Certificate`].
    pub(super) fn new(host: &Host) -> Result<Self, DockerError> {
        let tls = match &host.address {
            Address::Tls { certificates, .. } => Some(tls::prepare(certificates)?),
            _ => None,
        };
        Ok(Self { host: host.clone(), tls, links: SshLinks::default(), moved: Arc::default() })
    }

    /// A client whose requests go over connections of this dialer, where an answer has to begin
    /// within `timeout`.
    pub(super) fn client(&self, timeout: Duration) -> Result<Docker, bollard::errors::Error> {
        let idle_max = if self.host.is_unix() { 0 } else { IDLE_LINKS_MAX };
        let client = Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(idle_max)
            .build(self.clone());
        let transport = move |request: BollardRequest| {
            let answer = client.request(request);
            async move { answer.await.map_err(bollard::errors::Error::from) }
        };
        let authority = match &self.host.address {
            Address::Tcp(address) | Address::Tls { address, .. } => address,
            Address::Unix(_) | Address::Ssh(_) => "docker",
        };
        let (address, version) = (format!("http://{authority}"), bollard::API_DEFAULT_VERSION);
        Docker::connect_with_custom_transport(transport, Some(address), timeout.as_secs(), version)
    }

    /// How many bytes went over all connections so far, in both directions.
    pub(super) fn moved(&self) -> u64 {
        self.moved.load(Ordering::Relaxed)
    }

    /// Ends whatever was started for connections.
    pub(super) fn end(&self) {
        self.links.end();
    }

    async fn dial(self) -> Result<Link, DialError> {
        let kind = match &self.host.address {
            Address::Unix(path) => {
                Kind::Unix(UnixStream::connect(path).await.map_err(|e| DialError::of_io(&e))?)
            }
            Address::Tcp(address) => Kind::Tcp(connect(address).await?),
            Address::Tls { address, .. } => {
                let tls = self.tls.as_ref().ok_or_else(DialError::lost)?;
                let stream = connect(address).await?;
                let name = tls::server_name(address)?;
                let shaken = within(tls.connector.connect(name, stream)).await?;
                let stream = Box::new(shaken.map_err(|e| DialError::of_io(&e))?);
                Kind::Tls { stream, asked: tls.asked.clone() }
            }
            Address::Ssh(place) => {
                let environment = &self.host.ssh_environment;
                Kind::Ssh(SshLink::start(place, environment, &self.links)?)
            }
        };
        Ok(Link { kind, heard: false, moved: self.moved })
    }
}

impl tower_service::Service<http::Uri> for Dialer {
    type Response = TokioIo<Link>;
    type Error = DialError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, DialError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), DialError>> {
        Poll::Ready(Ok(()))
    }

    /// There is one engine, whatever stands in the address of a request.
    fn call(&mut self, _: http::Uri) -> Self::Future {
        let dialer = self.clone();
        Box::pin(async move { dialer.dial().await.map(TokioIo::new) })
    }
}

/// Connects to `host:port`, one address after the other.
async fn connect(address: &str) -> Result<TcpStream, DialError> {
    let stream = within(TcpStream::connect(address)).await?.map_err(|e| DialError::of_io(&e))?;
    let kept = || -> rustix::io::Result<()> {
        use rustix::net::sockopt;

        sockopt::set_socket_keepalive(&stream, true)?;
        sockopt::set_tcp_keepidle(&stream, Duration::from_secs(SILENCE_SECONDS))?;
        sockopt::set_tcp_keepintvl(&stream, Duration::from_secs(SILENCE_SECONDS))?;
        sockopt::set_tcp_keepcnt(&stream, QUESTIONS_MAX)?;
        // What was sent and never confirmed: keepalive does not look then.
        let all = SILENCE_SECONDS * 1000 * u64::from(QUESTIONS_MAX + 1);
        sockopt::set_tcp_user_timeout(&stream, u32::try_from(all).unwrap_or(u32::MAX))
    };
    kept().map_err(|e| DialError::of_io(&e.into()))?;
    stream.set_nodelay(true).map_err(|e| DialError::of_io(&e))?;
    Ok(stream)
}

async fn within<T>(connecting: impl Future<Output = T>) -> Result<T, DialError> {
    let late = |_| DialError::of_io(&io::ErrorKind::TimedOut.into());
    tokio::time::timeout(CONNECT_MAX, connecting).await.map_err(late)
}

/// A connection that stands.
pub(super) struct Link {
    kind: Kind,
    /// Whether the engine was ever heard.
    heard: bool,
    moved: Arc<AtomicU64>,
}

enum Kind {
    Unix(UnixStream),
    Tcp(TcpStream),
    Tls { stream: Box<TlsStream<TcpStream>>, asked: Arc<Nameless> },
    Ssh(SshLink),
}

/// What can be read and written.
trait Stream: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Stream for T {}

impl Link {
    fn stream(&mut self) -> Pin<&mut dyn Stream> {
        match &mut self.kind {
            Kind::Unix(stream) => Pin::new(stream),
            Kind::Tcp(stream) => Pin::new(stream),
            Kind::Tls { stream, .. } => Pin::new(stream.as_mut()),
            Kind::Ssh(link) => Pin::new(link),
        }
    }

    fn count(&self, bytes: usize) {
        let _ = self.moved.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Why an engine hangs up before it has said anything, if that is known.
    fn why_silent(&self) -> Option<io::Error> {
        match &self.kind {
            Kind::Tls { asked, .. } if !self.heard && asked.was_asked() => {
                Some(io::Error::other(DialError::nameless()))
            }
            _ => None,
        }
    }
}

impl AsyncRead for Link {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let link = self.get_mut();
        let before = buffer.filled().len();
        let wanted = buffer.remaining() > 0;
        let read = link.stream().poll_read(context, buffer);
        let len = buffer.filled().len() - before;
        link.heard |= len > 0;
        link.count(len);
        match (&read, link.why_silent()) {
            (Poll::Ready(_), Some(why)) if wanted => Poll::Ready(Err(why)),
            _ => read,
        }
    }
}

impl AsyncWrite for Link {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let link = self.get_mut();
        let written = link.stream().poll_write(context, bytes);
        match (&written, link.why_silent()) {
            (Poll::Ready(Ok(len)), _) => link.count(*len),
            (Poll::Ready(Err(_)), Some(why)) => return Poll::Ready(Err(why)),
            _ => {}
        }
        written
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().stream().poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().stream().poll_shutdown(context)
    }
}

impl Connection for Link {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}
