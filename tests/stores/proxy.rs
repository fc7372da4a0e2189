//! A server between a store and its clients that misbehaves by plan, and proves that it did.
//!
//! It passes requests on one by one, each over a connection of its own, without changing a byte
//! that is signed.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// What happens to a request.
#[derive(Clone)]
pub(super) enum Fault {
    /// The proxy answers; the server never hears of it.
    Answer { status: u16, headers: String, body: String },
    /// The server does it; the answer is lost.
    LoseReply,
    /// The connection is reset while the request is sent.
    Reset,
    /// Nothing comes back, and the connection stays.
    Silence,
    /// The answer comes late.
    Late(Duration),
    /// The answer's body ends after so many bytes, and so does the connection.
    CutReply(usize),
    /// The answer says that its body is so many bytes shorter, and sends no more.
    ShortenReply(usize),
    /// The server sees no condition of a put.
    HideCondition,
    /// The server sees no range, and answers with the whole object.
    HideRange,
    /// The server does it now and once more when the plan says so.
    Repeat,
    /// The server is told only when the plan says so; the proxy says that it is done.
    Postpone,
    /// The server gets only so many bytes of the body.
    CutRequest(usize),
    /// The answer's body is changed.
    Rewrite(fn(&str) -> String),
}

impl Fault {
    /// An answer as S3 would send it.
    pub(super) fn s3(status: u16, code: &str) -> Self {
        let body = format!(
            "<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>says the proxy</Message></Error>"
        );
        Self::Answer { status, headers: String::new(), body }
    }
}

struct Rule {
    method: &'static str,
    part: String,
    times: u32,
    fault: Fault,
}

/// A request as it came.
#[derive(Clone)]
struct Request {
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

/// What is kept of a request.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) authorization: String,
    /// Whether it is a put that is to happen only where nothing has the name.
    pub(super) conditional: bool,
    pub(super) at: Instant,
}

#[derive(Default)]
struct Plan {
    rules: Vec<Rule>,
    hits: u32,
    seen: Vec<Seen>,
    later: Vec<Request>,
}

/// The proxy; it ends with this.
pub(super) struct Proxy {
    address: String,
    path: String,
    upstream: String,
    plan: Arc<Mutex<Plan>>,
    over: Arc<AtomicBool>,
}

impl Proxy {
    /// A proxy in front of a server, `http://HOST:PORT` and perhaps a path.
    pub(super) fn before(url: &str) -> Self {
        let rest = url.strip_prefix("http://").expect("plain HTTP");
        let (upstream, path) = match rest.split_once('/') {
            Some((host, path)) => (host.to_owned(), format!("/{path}")),
            None => (rest.to_owned(), String::new()),
        };
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let plan = Arc::<Mutex<Plan>>::default();
        let over = Arc::<AtomicBool>::default();
        let (shared, ended, to) = (plan.clone(), over.clone(), upstream.clone());
        let _ = thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if ended.load(Ordering::Relaxed) {
                    return;
                }
                let (plan, to) = (shared.clone(), to.clone());
                let _ = thread::spawn(move || serve(client, &plan, &to));
            }
        });
        Self { address, path, upstream, plan, over }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}{}", self.address, self.path)
    }

    /// Misbehaves at the next `times` requests of a method whose path and query hold `part`.
    pub(super) fn next(&self, times: u32, method: &'static str, part: &str, fault: Fault) {
        let part = part.to_owned();
        self.plan().rules.push(Rule { method, part, times, fault });
    }

    /// How often it misbehaved.
    pub(super) fn hits(&self) -> u32 {
        self.plan().hits
    }

    /// The requests so far.
    pub(super) fn seen(&self) -> Vec<Seen> {
        self.plan().seen.clone()
    }

    /// How many there were of one method.
    pub(super) fn count(&self, method: &str) -> usize {
        self.plan().seen.iter().filter(|seen| seen.method == method).count()
    }

    /// Forgets what it has seen.
    pub(super) fn clear(&self) {
        let mut plan = self.plan();
        (plan.seen, plan.hits) = (Vec::new(), 0);
    }

    /// Sends the server what was kept for later; tells how much that was.
    pub(super) fn deliver(&self) -> usize {
        let later = std::mem::take(&mut self.plan().later);
        later.iter().for_each(|request| drop(pass(request, &self.upstream)));
        later.len()
    }

    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(&self.address);
    }
}

fn serve(client: TcpStream, plan: &Mutex<Plan>, upstream: &str) -> Option<()> {
    let mut reader = BufReader::new(client.try_clone().ok()?);
    let mut request = read_head(&mut reader)?;
    let fault = next_fault(&request, plan);
    if matches!(fault, Some(Fault::Reset)) {
        // What came and was not read makes a reset of a close.
        return None;
    }
    let len = request.header("content-length").and_then(|len| len.parse().ok()).unwrap_or(0);
    request.body.resize(len, 0);
    reader.read_exact(&mut request.body).ok()?;
    let reply = disturbed(request, fault, plan, upstream)?;
    let mut client = client;
    client.write_all(&reply).ok()
}

/// Notes a request and finds what is to happen to it.
#[expect(clippy::disallowed_methods, reason = "what a server measures is no test's business")]
fn next_fault(request: &Request, plan: &Mutex<Plan>) -> Option<Fault> {
    let mut plan = plan.lock().unwrap_or_else(PoisonError::into_inner);
    let authorization = request.header("authorization").unwrap_or_default().to_owned();
    let (method, path) = (request.method.clone(), request.path.clone());
    let conditional = request.header("if-none-match").is_some();
    plan.seen.push(Seen { method, path, authorization, conditional, at: Instant::now() });
    let rule = plan.rules.iter_mut().find(|rule| {
        let method = rule.method.is_empty() || rule.method == request.method;
        rule.times > 0 && method && request.path.contains(&rule.part)
    })?;
    rule.times -= 1;
    let fault = rule.fault.clone();
    plan.hits += 1;
    Some(fault)
}

/// The bytes that go back to the client; none for a connection that just ends.
fn disturbed(
    mut request: Request,
    fault: Option<Fault>,
    plan: &Mutex<Plan>,
    upstream: &str,
) -> Option<Vec<u8>> {
    let later = |request: &Request| {
        plan.lock().unwrap_or_else(PoisonError::into_inner).later.push(request.clone());
    };
    match fault {
        None => pass(&request, upstream),
        Some(Fault::Answer { status, headers, body }) => Some(answer(status, &headers, &body)),
        Some(Fault::LoseReply) => pass(&request, upstream).and(None),
        Some(Fault::Reset) => None,
        Some(Fault::Silence) => {
            thread::sleep(Duration::from_secs(600));
            None
        }
        Some(Fault::Late(by)) => {
            thread::sleep(by);
            pass(&request, upstream)
        }
        Some(Fault::CutReply(len)) => {
            let (head, body) = halves(pass(&request, upstream)?);
            Some([&head[..], &body[..len.min(body.len())]].concat())
        }
        Some(Fault::ShortenReply(by)) => {
            let (head, mut body) = halves(pass(&request, upstream)?);
            body.truncate(body.len().saturating_sub(by));
            Some(with_length(&head, &body))
        }
        Some(Fault::HideCondition) => {
            request.headers.retain(|(name, _)| name != "if-none-match");
            pass(&request, upstream)
        }
        Some(Fault::HideRange) => {
            request.headers.retain(|(name, _)| name != "range");
            pass(&request, upstream)
        }
        Some(Fault::Repeat) => {
            later(&request);
            pass(&request, upstream)
        }
        Some(Fault::Postpone) => {
            later(&request);
            Some(answer(204, "", ""))
        }
        Some(Fault::CutRequest(len)) => {
            request.body.truncate(len);
            request.headers.retain(|(name, _)| name != "content-length");
            let len = request.body.len().to_string();
            request.headers.push(("content-length".to_owned(), len));
            pass(&request, upstream)
        }
        Some(Fault::Rewrite(change)) => {
            let (head, body) = halves(pass(&request, upstream)?);
            let body = change(&String::from_utf8(body).expect("text"));
            Some(with_length(&head, body.as_bytes()))
        }
    }
}

impl Request {
    fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }
}

fn read_head(reader: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut line = String::new();
    let _ = reader.read_line(&mut line).ok()?;
    let mut words = line.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        let _ = reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    Some(Request { method, path, headers, body: Vec::new() })
}

/// The server's whole answer.
fn pass(request: &Request, upstream: &str) -> Option<Vec<u8>> {
    let mut server = TcpStream::connect(upstream).ok()?;
    let mut head = format!("{} {} HTTP/1.1\r\n", request.method, request.path);
    for (name, value) in request.headers.iter().filter(|(name, _)| name != "connection") {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("connection: close\r\n\r\n");
    server.write_all(&[head.as_bytes(), &request.body].concat()).ok()?;
    let mut reply = Vec::new();
    let _ = server.read_to_end(&mut reply).ok()?;
    Some(reply)
}

fn answer(status: u16, headers: &str, body: &str) -> Vec<u8> {
    let len = body.len();
    format!(
        "HTTP/1.1 {status} -\r\ncontent-length: {len}\r\nconnection: close\r\n{headers}\r\n{body}"
    )
    .into_bytes()
}

/// An answer's head with the empty line, and its body.
fn halves(reply: Vec<u8>) -> (Vec<u8>, Vec<u8>) {
    let at = reply.windows(4).position(|window| window == b"\r\n\r\n").expect("a head") + 4;
    (reply[..at].to_vec(), reply[at..].to_vec())
}

/// The answer with another body.
fn with_length(head: &[u8], body: &[u8]) -> Vec<u8> {
    let head = String::from_utf8(head.to_vec()).expect("text");
    let lines = head.split("\r\n").filter(|line| {
        let name = line.to_ascii_lowercase();
        !name.starts_with("content-length:") && !line.is_empty()
    });
    let head: String = lines.map(|line| format!("{line}\r\n")).collect();
    [format!("{head}content-length: {}\r\n\r\n", body.len()).as_bytes(), body].concat()
}
