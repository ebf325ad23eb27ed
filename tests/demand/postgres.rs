//! Queries of a real PostgreSQL.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use microscaler::store::secrets::{Secret, Secrets};
use microscaler_testbed::{Authority, Server, Stopped};
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::fixture::{Files, Fixture, app, is, metric, with};

/// A server with the users `bob` and `eve`, a table of jobs, and TLS by an authority of its own.
struct Postgres {
    server: Server,
    bin: PathBuf,
    authority: Authority,
    secrets: Files,
}

/// PostgreSQL refuses to be root; its package brings a user to be instead.
fn unprivileged(program: &Path, arguments: &[&str]) -> Vec<String> {
    let mut words = vec![];
    if rustix::process::getuid().is_root() {
        words.extend(["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"].map(str::to_owned));
    } else {
        words.push("env".to_owned());
    }
    words.push(program.display().to_string());
    words.extend(arguments.iter().map(|&word| word.to_owned()));
    words
}

fn run(words: &[String], directory: &Path) {
    let output = Command::new(&words[0]).args(&words[1..]).current_dir(directory).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Gives it to the user who the server is.
fn hand_over(directory: &Path) {
    if rustix::process::getuid().is_root() {
        run(&["chown".to_owned(), "-R".to_owned(), "postgres".to_owned(), directory.display().to_string()], Path::new("/"));
    }
}

impl Postgres {
    fn start() -> Self {
        let stopped: Stopped = Server::new("postgres").unwrap();
        let bin = stopped.installed().to_owned();
        let authority = Authority::new().unwrap();
        let home = authority.write(stopped.directory(), &["server"]).unwrap();
        hand_over(&home);
        run(&["chmod", "600", "server.key"].map(str::to_owned), &home);
        let data = home.join("data").display().to_string();
        let init = ["--pgdata", &data, "--username=admin", "--auth=scram-sha-256", "--auth-local=trust", "--no-sync"];
        let password = stopped.file("password", "master").unwrap().display().to_string();
        run(&unprivileged(&bin.join("initdb"), &[&init[..], &["--pwfile", &password]].concat()), &home);
        let program = unprivileged(&bin.join("postgres"), &[]);
        let arguments = move |port: u16, home: &Path| {
            let (home, port) = (home.display().to_string(), port.to_string());
            let mut words = program[1..].to_vec();
            words.extend(["-D".to_owned(), format!("{home}/data"), "-p".to_owned(), port, "-k".to_owned(), home.clone()]);
            for setting in [
                "fsync=off".to_owned(),
                "ssl=on".to_owned(),
                format!("ssl_cert_file={home}/server.pem"),
                format!("ssl_key_file={home}/server.key"),
            ] {
                words.extend(["-c".to_owned(), setting]);
            }
            words
        };
        let program = Path::new("/usr/bin").join(&unprivileged(&bin, &[])[0]);
        let server = stopped.start(program, arguments).unwrap();
        let postgres = Self { server, bin, authority, secrets: Files::new() };
        postgres
            .sql("CREATE TABLE jobs (id int); CREATE ROLE bob LOGIN PASSWORD 'secret'; CREATE ROLE eve LOGIN PASSWORD 'evil'");
        postgres.sql("GRANT ALL ON jobs TO bob");
        postgres.secrets.write("password", "secret");
        postgres.secrets.write("ca", postgres.authority.pem());
        postgres
    }

    /// What the administrator is told, once the server is ready.
    fn sql(&self, statement: &str) -> String {
        let port = self.server.port().to_string();
        let home = self.server.directory().display().to_string();
        for _ in 0..900 {
            let mut psql = Command::new(self.bin.join("psql"));
            psql.args([
                "-h",
                &home,
                "-p",
                &port,
                "-U",
                "admin",
                "-d",
                "postgres",
                "-Atq",
                "-v",
                "ON_ERROR_STOP=1",
                "-c",
                statement,
            ]);
            let output = psql.stdin(Stdio::null()).output().unwrap();
            let (told, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            if output.status.success() {
                return told.trim().to_owned();
            }
            let is_starting = ["the database system is", "No such file", "Connection refused", "closed the connection"];
            assert!(is_starting.iter().any(|words| said.contains(words)), "{statement}: {said}");
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("{}", self.server.state_and_log_tail());
    }

    /// At once, with all its connections.
    fn stop(&self) {
        self.server.signal(Signal::QUIT).unwrap();
        while self.server.is_running() {
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// A metric of bob's, where `more` adds or replaces fields.
    fn metric(&self, query: &str, more: Value) -> Value {
        let spec = json!({
            "query": query, "host": "127.0.0.1", "port": self.server.port(), "userName": "bob", "password": self.secrets.named("password"),
            "dbName": "postgres", "tls": {"ca": self.secrets.named("ca")}, "pollMilliseconds": 20, "timeoutMilliseconds": 5000,
        });
        metric("m", "postgres", &with(spec, &more))
    }

    fn fixture(&self, query: &str, more: Value) -> Fixture {
        Fixture::of(self.metric(query, more))
    }

    fn address(&self) -> String {
        self.server.address().to_string()
    }
}

const COUNT: &str = "SELECT count(*) FROM jobs";

#[tokio::test]
async fn the_value_follows_what_is_there() {
    let postgres = Postgres::start();
    let fixture = postgres.fixture(COUNT, json!({}));
    fixture.until_value(is(0.0)).await;
    postgres.sql("INSERT INTO jobs SELECT generate_series(1, 7)");
    fixture.until_value(is(7.0)).await;
    postgres.sql("DELETE FROM jobs WHERE id > 3");
    fixture.until_value(is(3.0)).await;
    // Whatever the type, also with a comment and a semicolon behind it.
    for (query, value) in [
        ("SELECT 1.25::numeric;", 1.25),
        ("SELECT sum(id) FROM jobs -- all", 6.0),
        ("SELECT 0.5::float4", 0.5),
        ("SELECT '8'", 8.0),
    ] {
        postgres.fixture(query, json!({})).until_value(is(value)).await;
    }
    // The same in one string.
    let connection = format!("postgres://bob:secret@{}/postgres?sslmode=disable", postgres.address());
    let demand = json!({"query": COUNT, "connection": postgres.secrets.write("connection", &connection), "pollMilliseconds": 20});
    Fixture::of(metric("m", "postgres", &demand)).until_value(is(3.0)).await;
}

#[tokio::test]
async fn what_is_wrong_is_said_in_words() {
    let postgres = Postgres::start();
    let at = format!("PostgreSQL at {}: ", postgres.address());
    for (query, more, expected) in [
        (
            COUNT,
            json!({"userName": "eve", "password": postgres.secrets.write("evil", "evil")}),
            "permission denied for table jobs",
        ),
        (COUNT, json!({"password": postgres.secrets.write("wrong", "wrong")}), "password authentication failed for user \"bob\""),
        (COUNT, json!({"dbName": "shop"}), "database \"shop\" does not exist"),
        ("SELECT count(*) FROM tasks", json!({}), "relation \"tasks\" does not exist"),
        ("SELECT count(*) FRM jobs", json!({}), "syntax error at or near \"jobs\""),
        ("SELECT id FROM jobs", json!({}), "the query yields no row, and one is needed"),
        ("VALUES (1), (2)", json!({}), "the query yields several rows, and one is needed"),
        ("SELECT 1, 2", json!({}), "the query yields 2 columns, and one is needed"),
        ("SELECT sum(id) FROM jobs", json!({}), "the query yields NULL: see whether it needs coalesce(…, 0)"),
        ("SELECT 'many'", json!({}), "the query yields \"many\", which is no number"),
        ("INSERT INTO jobs VALUES (1) RETURNING id", json!({}), "cannot execute INSERT in a read-only transaction"),
        (
            "SELECT 1 FROM pg_sleep(60)",
            json!({"timeoutMilliseconds": 2000}),
            "the query takes too long, and was given up: see timeoutMilliseconds",
        ),
    ] {
        assert_eq!(postgres.fixture(query, more).failure().await, format!("{at}{expected}"));
    }
    assert_eq!(postgres.sql(COUNT), "0", "something was written");
    assert_eq!(postgres.fixture("SELECT -1", json!({})).failure().await, "-1 is negative");
    let connection = json!({"query": COUNT, "connection": postgres.secrets.write("connection", "secret=1")});
    let failure = Fixture::of(metric("m", "postgres", &connection)).failure().await;
    assert!(failure.starts_with("connection: it is not as PostgreSQL's") && !failure.contains("secret"), "{failure}");
}

/// On Kubernetes, who may write an app is not who may read the database.
#[tokio::test]
async fn where_it_has_to_be_nothing_of_the_answer_is_told() {
    let postgres = Postgres::start();
    let secrets = Arc::new(Secrets::in_kubernetes());
    let data = |password: &str| {
        let data = BTreeMap::from([("password".to_owned(), password.into()), ("ca".to_owned(), postgres.authority.pem().into())]);
        secrets.put(&("shop".to_owned(), "db".to_owned()), Some(&Secret::Data(data)));
    };
    data("secret");
    let reference = |key: &str| json!({"secretRef": {"name": "db", "key": key}});
    let asked = |query: &str| {
        let demand = postgres.metric(query, json!({"password": reference("password"), "tls": {"ca": reference("ca")}}));
        Fixture::with(secrets.clone(), demand)
    };
    let at = format!("PostgreSQL at {}: ", postgres.address());
    let told = [
        ("SELECT 'hidden'", "the query yields a text, which is no number"),
        ("SELECT 'hidden'::int", "the server's error 22P02 (SQLSTATE)"),
        ("SELECT * FROM hidden", "a table of the query does not exist"),
    ];
    for (query, expected) in told {
        assert_eq!(asked(query).failure().await, format!("{at}{expected}"));
    }
    let fixture = asked(COUNT);
    fixture.until_value(is(0.0)).await;
    data("wrong");
    assert_eq!(fixture.failure().await, format!("{at}the user or the password is refused"));
    data("secret");
    fixture.until_value(is(0.0)).await;
}

#[tokio::test]
async fn a_notification_is_as_good_as_a_poll() {
    let postgres = Postgres::start();
    // Polls alone would come too late for any test.
    let rarely = json!({"listen": "jobs", "pollMilliseconds": 3_600_000});
    let fixture = postgres.fixture(COUNT, rarely);
    fixture.until_value(is(0.0)).await;
    for count in 1..=3 {
        postgres.sql("INSERT INTO jobs VALUES (1); NOTIFY jobs");
        fixture.until_value(is(f64::from(count))).await;
    }
    // Others' news are none.
    postgres.sql("INSERT INTO jobs VALUES (1); NOTIFY others");
    postgres.sql("INSERT INTO jobs VALUES (1); NOTIFY jobs");
    assert!(is(5.0)(fixture.value().await));
    // With the connection gone, nobody would notify: it is asked anew at once.
    postgres.sql("INSERT INTO jobs VALUES (1)");
    postgres.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'microscaler'");
    fixture.until_value(is(6.0)).await;
    postgres.sql("INSERT INTO jobs VALUES (1); NOTIFY jobs");
    fixture.until_value(is(7.0)).await;
}

#[tokio::test]
async fn a_restarted_server_is_found_again_and_the_value_is_kept_meanwhile() {
    let postgres = Postgres::start();
    postgres.sql("INSERT INTO jobs SELECT generate_series(1, 5)");
    let fixture = postgres.fixture(COUNT, json!({}));
    fixture.until_value(is(5.0)).await;
    postgres.stop();
    fixture.failure_keeps(5.0).await;
    fixture.until_failure(&format!("PostgreSQL at {}: connection refused", postgres.address())).await;
    postgres.server.start().unwrap();
    postgres.sql("INSERT INTO jobs VALUES (6)");
    fixture.until_value(is(6.0)).await;
}

#[tokio::test]
async fn tls_is_spoken_with_whom_our_authority_vouches_for() {
    let postgres = Postgres::start();
    let spoken = "SELECT CASE WHEN ssl THEN 1 ELSE 0 END FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    postgres.fixture(spoken, json!({})).until_value(is(1.0)).await;
    postgres.fixture(spoken, json!({"sslmode": "prefer"})).until_value(is(1.0)).await;
    postgres.fixture(spoken, json!({"sslmode": "disable"})).until_value(is(0.0)).await;
    postgres.fixture(spoken, json!({"tls": {"unsafeSsl": true}})).until_value(is(1.0)).await;
    let other = Authority::new().unwrap();
    let stranger = json!({"tls": {"ca": postgres.secrets.write("other", other.pem())}});
    let failure = postgres.fixture(spoken, stranger).failure().await;
    assert!(failure.contains("invalid peer certificate"), "{failure}");
    let failure = postgres.fixture(spoken, json!({"tls": null})).failure().await;
    assert!(failure.contains("certificate"), "{failure}");
}

#[tokio::test]
async fn a_rotated_password_is_taken_up() {
    let postgres = Postgres::start();
    let fixture = postgres.fixture(COUNT, json!({}));
    fixture.until_value(is(0.0)).await;
    postgres.sql("ALTER ROLE bob PASSWORD 'rotated'");
    postgres.sql("INSERT INTO jobs VALUES (1)");
    // Whoever is in stays in.
    fixture.until_value(is(1.0)).await;
    postgres.secrets.write("password", "mistyped");
    fixture.until_failure("password authentication failed").await;
    postgres.secrets.write("password", "rotated");
    postgres.sql("INSERT INTO jobs VALUES (2)");
    fixture.until_value(is(2.0)).await;
}

#[tokio::test]
async fn metrics_of_one_server_share_a_connection() {
    let postgres = Postgres::start();
    let mut fixture = Fixture::new();
    let apps: Vec<_> = (0..5)
        .map(|number| {
            app(&format!("app-{number}"), json!([postgres.metric(&format!("SELECT {number}"), json!({"listen": "jobs"}))]))
        })
        .collect();
    fixture.sources.sync(&apps);
    let mut seen = BTreeSet::new();
    while seen.len() < apps.len() {
        seen.extend(fixture.next().await.into_iter().filter(|update| update.reading.value.is_some()).map(|update| update.app));
    }
    let connections = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'microscaler'";
    assert_eq!(postgres.sql(connections), "1");
    drop(fixture);
    for _ in 0..900 {
        if postgres.sql(connections) == "0" {
            return;
        }
        sleep(Duration::from_millis(100)).await;
    }
    panic!("the connection is still open");
}

#[tokio::test]
async fn garbage_is_a_failure() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let _server = tokio::spawn(async move {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let spec = json!({"query": "SELECT 1", "host": "127.0.0.1", "port": address.port(), "userName": "bob", "dbName": "shop"});
    for sslmode in ["disable", "require"] {
        let mut spec = spec.clone();
        spec["sslmode"] = json!(sslmode);
        let failure = Fixture::of(metric("m", "postgres", &spec)).failure().await;
        assert!(failure.starts_with(&format!("PostgreSQL at {address}: ")), "{failure}");
    }
}
