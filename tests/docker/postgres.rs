//! A database server's volume: what is restored must answer as before.

use super::container::{POSTGRES, Recipe, TestContainer, volume_exists};
use super::vault::{Machine, snapshot_of};
use super::{TestVolume, engine};

const DATA: &str = "/var/lib/postgresql/data";

const FILL: &str = "
    create table plain as select n, md5(n::text) word from generate_series(1, 20000) n;
    create index on plain (word);
    create table big as select n, repeat(md5(n::text), 300) body from generate_series(1, 500) n;
    create sequence counter; select nextval('counter') from generate_series(1, 42);
    update plain set word = upper(word) where n % 3 = 0; delete from plain where n % 7 = 0;
";

const QUERIES: &str = "
    select count(*), sum(n), md5(string_agg(word, ',' order by n)) from plain;
    select md5(string_agg(body, ',' order by n)) from big;
    set enable_seqscan = off; select n from plain where word = md5('10000');
    select last_value from counter;
";

fn server(volume: &TestVolume) -> TestContainer {
    let start = format!(
        "[ -e {DATA}/PG_VERSION ] || initdb -D {DATA} -A trust >/dev/null
         exec postgres -D {DATA} -c listen_addresses="
    );
    let command = ["sh", "-ec", &start];
    let recipe = Recipe { image: POSTGRES, user: "postgres", at: DATA, command: &command };
    let container = TestContainer::start(&volume.engine, volume.name(), &recipe);
    let ready = "for i in $(seq 600); do pg_isready -q && exit; sleep .05; done; exit 1";
    let _ = container.exec(&["sh", "-c", ready]);
    container
}

fn ask(server: &TestContainer, sql: &str) -> String {
    server.exec(&[
        "psql",
        "-XAtq",
        "-P",
        "pager=off",
        "-v",
        "ON_ERROR_STOP=1",
        "-d",
        "postgres",
        "-c",
        sql,
    ])
}

#[test]
fn postgres_starts_on_a_restored_volume_and_answers_the_same_queries() {
    let engine = engine();
    let machine = Machine::new();
    let volume = TestVolume::new(&engine);
    let first = server(&volume);
    let _ = ask(&first, FILL);
    let answers = ask(&first, QUERIES);
    assert!(answers.lines().count() == 4 && answers.contains("|"), "{answers}");

    let strict = machine.run(&["backup", volume.name(), "--strict"]);
    let _ = strict.expect_error(14, &[volume.name(), &first.name]);
    let ended = machine.run(&["backup", volume.name(), "--json"]);
    // a file that changes while it is read is no failure
    assert!(matches!(ended.code, Some(0 | 3)), "{ended:?}");
    let live = &ended.json()["backups"][0];
    let (method, warnings) = (live["method"].to_string(), live["warnings"].to_string());
    assert_eq!(live["live"], true);
    assert!(method.contains("live") && method.contains(&first.name), "{method}");
    assert!(warnings.contains("live") && warnings.contains(&first.name), "{warnings}");

    first.stop();
    assert_eq!(first.state()["ExitCode"], 0, "{}", first.state());
    drop(first);
    let still = machine.json(&["backup", volume.name(), "--strict"], 0);
    assert_eq!(still["backups"][0]["live"], false, "{still}");
    engine.remove_volume(volume.name()).expect("nobody uses it");
    assert!(!volume_exists(&engine, volume.name()));

    let _ = machine.run(&["restore", &snapshot_of(&still)]).expect(0);
    let second = server(&volume);
    assert_eq!(ask(&second, QUERIES), answers);
    for sql in ["insert into plain values (0, 'new')", "vacuum full plain", "checkpoint"] {
        let _ = ask(&second, sql);
    }
    second.stop();
    assert_eq!(second.state()["ExitCode"], 0, "{}", second.state());
}
