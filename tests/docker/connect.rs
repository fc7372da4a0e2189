//! Reaching an engine, or being told plainly why not.

use std::io::{self, BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::thread;

use rustix::thread::set_thread_res_uid;
use volume_vault::docker::{DockerError, Engine, Environment, Host, WhyNot};

use super::{TestVolume, engine, socket};

#[test]
fn engine_says_who_and_where_it_is() {
    let engine = engine();
    let info = engine.info();
    assert!(!info.id.is_empty() && !info.name.is_empty() && !info.version.is_empty());
    assert_eq!((info.os.as_str(), info.local, info.rootless), ("linux", true, false));
    assert!(Path::new(&info.root_dir).is_dir(), "{info:?}");
}

#[test]
fn missing_socket_is_no_engine_and_the_message_names_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("docker.sock");
    let error = Engine::connect(&Host::unix(&socket)).expect_err("there is no socket");
    assert!(matches!(error, DockerError::NoEngine { .. }), "{error:?}");
    let message = error.to_string();
    assert!(message.contains(&socket.display().to_string()), "{message}");
}

#[test]
fn socket_nobody_listens_on_is_no_engine() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("docker.sock");
    drop(UnixListener::bind(&socket).expect("a socket"));
    let error = Engine::connect(&Host::unix(&socket)).expect_err("nobody listens");
    assert!(matches!(error, DockerError::NoEngine { .. }), "{error:?}");
}

#[test]
fn closed_tcp_port_is_no_engine() {
    let free = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = free.local_addr().expect("an address");
    drop(free);
    let host = Host::resolve(Some(&format!("tcp://{address}")), &Environment::default());
    let error = Engine::connect(&host.expect("an address")).expect_err("nobody listens");
    assert!(matches!(error, DockerError::NoEngine { .. }), "{error:?}");
}

#[test]
fn socket_of_others_is_a_matter_of_permission() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("docker.sock");
    let _listener = UnixListener::bind(&socket).expect("a socket");
    let host = Host::unix(&socket);
    // only this thread becomes nobody; the folder is root's alone
    let error = thread::spawn(move || {
        let nobody = rustix::process::Uid::from_raw(65534);
        set_thread_res_uid(nobody, nobody, nobody).expect("tests run as root");
        Engine::connect(&host).expect_err("nobody may not")
    });
    let error = error.join().expect("the thread ends well");
    assert!(matches!(error, DockerError::Permission { .. }), "{error:?}");
    assert!(error.to_string().contains(&socket.display().to_string()), "{error}");
}

#[test]
fn every_call_after_the_first_carries_the_version_agreed_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("docker.sock");
    let listener = UnixListener::bind(&path).expect("a socket");
    let asked = thread::spawn(move || {
        let answers =
            [r#"{"ApiVersion":"1.99","MinAPIVersion":"1.40"}"#, "{}", r#"{"Volumes":[]}"#];
        let mut asked = Vec::new();
        for answer in answers {
            // the first connection only tries the socket
            loop {
                let (mut stream, _) = listener.accept().expect("a connection");
                let mut line = String::new();
                let mut reader = BufReader::new(stream.try_clone().expect("a stream"));
                if reader.read_line(&mut line).expect("a line") == 0 {
                    continue;
                }
                asked.push(line.split(' ').nth(1).expect("a path").to_owned());
                let len = answer.len();
                write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {len}\r\n\r\n{answer}")
                    .expect("the answer is taken");
                break;
            }
        }
        asked
    });
    let engine = Engine::connect(&Host::unix(&path)).expect("it answers");
    assert_eq!(engine.info().api_version, "1.47");
    let _ = engine.volumes().expect("it answers");
    assert_eq!(asked.join().expect("it served"), ["/version", "/v1.47/info", "/v1.47/volumes"]);
}

#[test]
fn something_else_behind_the_socket_is_not_taken_for_an_engine() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("docker.sock");
    let listener = UnixListener::bind(&path).expect("a socket");
    let server = thread::spawn(move || {
        for stream in listener.incoming().take(1) {
            let mut stream = stream.expect("a connection");
            let _ = stream.write_all(b"220 mail.example ESMTP\r\n");
        }
    });
    let error = Engine::connect(&Host::unix(&path)).expect_err("this is a mail server");
    assert!(matches!(error, DockerError::Interrupted { .. }), "{error:?}");
    server.join().expect("it served");
}

#[test]
fn engine_is_reached_by_tcp_and_then_its_volumes_have_no_path_here() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let _ = thread::spawn(move || {
        for client in listener.incoming() {
            let client = client.expect("a connection");
            let engine = UnixStream::connect(socket()).expect("the engine");
            let (mut to, mut back) = (engine.try_clone().expect("a stream"), engine);
            let (mut from, mut into) = (client.try_clone().expect("a stream"), client);
            let _ = thread::spawn(move || io::copy(&mut from, &mut to));
            let _ = thread::spawn(move || io::copy(&mut back, &mut into));
        }
    });
    let host = Host::resolve(Some(&format!("tcp://{address}")), &Environment::default());
    let engine = Engine::connect(&host.expect("an address")).expect("it answers");
    assert!(!engine.info().local);
    let volume = TestVolume::new(&engine);
    assert_eq!(engine.host_path(&volume.info), Err(WhyNot::Remote));
}
