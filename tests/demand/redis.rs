//! A real Redis, with TLS, Sentinel and Cluster.

use microscaler_testbed::{Authority, Server, Stopped};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::fixture::{Files, Fixture, app, arguments, is, metric, with};
use crate::https::certificates_count_on_both_sides;

const HOUR: i64 = 3_600_000;

/// A server that keeps nothing on disk.
fn start(server: Stopped, options: &[&str]) -> Server {
    let own = ["--port", "{port}", "--bind", "127.0.0.1", "--save", ""];
    server.start("redis-server", arguments(&[&own, options].concat())).unwrap()
}

fn redis(options: &[&str]) -> Server {
    start(Server::new("redis").unwrap(), options)
}

/// What redis-cli answers to a line.
async fn cli(server: &Server, line: &str) -> String {
    let mut command = Command::new("redis-cli");
    command.args(["-p", &server.port().to_string()]).args(line.split(' '));
    let output = command.output().await.unwrap();
    assert!(output.status.success(), "{line}: {output:?}");
    let answer = String::from_utf8(output.stdout).unwrap().trim().to_owned();
    let refused = ["ERR", "NOAUTH", "WRONG", "Error"].iter().any(|word| answer.starts_with(word));
    assert!(!refused, "{line}: {answer}");
    answer
}

/// A metric of this server, polled often.
fn spec(server: &Server, more: &Value) -> Value {
    let spec = json!({"addresses": [server.address().to_string()], "pollMilliseconds": 20, "calmPollMilliseconds": 40, "timeoutMilliseconds": 5000});
    with(spec, more)
}

fn of(server: &Server, more: Value) -> Fixture {
    Fixture::of(metric("m", "redis", &spec(server, &more)))
}

#[tokio::test]
async fn whatever_is_kept_is_followed() {
    let server = redis(&[]);
    for (before, measure, expected, change, then) in [
        ("RPUSH jobs a b", json!({"listName": "jobs"}), 2.0, "LPOP jobs 2", 0.0),
        ("XADD log * a b", json!({"stream": {"name": "log"}}), 1.0, "XADD log * c d", 2.0),
        ("ZADD due 1 a 5 b 9 c", json!({"sortedSet": {"name": "due"}}), 3.0, "ZREM due a", 2.0),
        (
            "ZADD late 1 a 5 b 9 c",
            json!({"sortedSet": {"name": "late", "minScore": "(1", "maxScore": "5"}}),
            1.0,
            "ZADD late 2 d",
            2.0,
        ),
        ("HSET counts open 7", json!({"hash": {"name": "counts", "field": "open"}}), 7.0, "HINCRBY counts open 3", 10.0),
        ("SET depth 1.5", json!({"key": "depth"}), 1.5, "SET depth 2", 2.0),
    ] {
        cli(&server, before).await;
        let fixture = of(&server, measure);
        assert!(is(expected)(fixture.value().await), "{before}");
        cli(&server, change).await;
        fixture.until_value(is(then)).await;
    }
}

#[tokio::test]
async fn entries_of_a_consumer_group() {
    let server = redis(&[]);
    for line in [
        "XGROUP CREATE log g $ MKSTREAM",
        "XADD log * a 1",
        "XADD log * a 2",
        "XADD log * a 3",
        "XREADGROUP GROUP g c COUNT 1 STREAMS log >",
    ] {
        cli(&server, line).await;
    }
    let group = |entries: &str| of(&server, json!({"stream": {"name": "log", "consumerGroup": "g", "entries": entries}}));
    for (entries, expected) in [("Pending", 1.0), ("Lag", 2.0), ("Unacknowledged", 3.0)] {
        assert!(is(expected)(group(entries).value().await), "{entries}");
    }
    let (pending, lag) = (group("Pending"), group("Lag"));
    cli(&server, "XREADGROUP GROUP g c COUNT 2 STREAMS log >").await;
    pending.until_value(is(3.0)).await;
    lag.until_value(is(0.0)).await;
}

#[tokio::test]
async fn what_is_wrong_is_said_in_words() {
    let server = redis(&[]);
    for line in ["SET text many", "RPUSH list a", "XGROUP CREATE log g $ MKSTREAM"] {
        cli(&server, line).await;
    }
    for (measure, expected) in [
        (
            json!({"listName": "text"}),
            "redis ADDRESS: LLEN text: WRONGTYPE Operation against a key holding the wrong kind of value",
        ),
        (json!({"key": "text"}), "GET text: found \"many\""),
        (json!({"key": "none"}), "GET none: nothing is there"),
        (json!({"hash": {"name": "h", "field": "f"}}), "HGET h f: nothing is there"),
        (json!({"stream": {"name": "none", "consumerGroup": "g"}}), "redis ADDRESS: XINFO GROUPS none: ERR no such key"),
        (
            json!({"stream": {"name": "log", "consumerGroup": "x"}}),
            "XINFO GROUPS log: there is no consumer group x; groups that exist: g",
        ),
        (json!({"key": "text", "databaseIndex": 99}), "redis ADDRESS: ERR DB index is out of range"),
        (
            json!({"key": "text", "password": {"file": "/nowhere"}}),
            "cannot read /nowhere: No such file or directory (os error 2)",
        ),
    ] {
        let failure = of(&server, measure).failure().await;
        assert_eq!(failure, expected.replace("ADDRESS", &server.address().to_string()));
    }
}

#[tokio::test]
async fn who_may_not_ask_is_told_and_a_changed_password_is_taken_up() {
    let server = redis(&[]);
    for line in ["ACL SETUSER shop on >one ~* +@all", "RPUSH jobs a b c"] {
        cli(&server, line).await;
    }
    let secrets = Files::new();
    let fixture = of(&server, json!({"listName": "jobs", "username": "shop", "password": secrets.write("password", "wrong\n")}));
    let failure = fixture.failure().await;
    assert!(failure.starts_with(&format!("redis {}: ", server.address())) && failure.contains("WRONGPASS"), "{failure}");
    secrets.write("password", "one");
    fixture.until_value(is(3.0)).await;
    // The server ends the connections of a user whose passwords are reset.
    for line in ["ACL DELUSER shop", "ACL SETUSER shop on >two ~* +@all", "RPUSH jobs d"] {
        cli(&server, line).await;
    }
    fixture.until_failure("WRONGPASS").await;
    secrets.write("password", "two");
    fixture.until_value(is(4.0)).await;
}

#[tokio::test]
async fn a_server_that_goes_away_and_comes_back_is_found_again() {
    let server = redis(&[]);
    cli(&server, "RPUSH jobs a b").await;
    let fixture = of(&server, json!({"listName": "jobs"}));
    fixture.until_value(is(2.0)).await;
    server.kill();
    fixture.until_failure(&format!("redis {}: connection refused", server.address())).await;
    fixture.failure_keeps(2.0).await;
    server.start().unwrap();
    fixture.until_value(is(0.0)).await;
    cli(&server, "RPUSH jobs c").await;
    fixture.until_value(is(1.0)).await;
}

#[tokio::test]
async fn what_does_not_speak_redis_has_failed() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            let _ = socket.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let spec = json!({"addresses": [address.to_string()], "listName": "jobs", "timeoutMilliseconds": 5000});
    let failure = Fixture::of(metric("m", "redis", &spec)).failure().await;
    assert!(failure.starts_with(&format!("redis {address}: ")), "{failure}");
}

#[tokio::test]
async fn metrics_of_one_server_share_a_connection() {
    let server = redis(&["--notify-keyspace-events", "KA"]);
    let metrics: Vec<Value> =
        (0..5).map(|n| metric(&format!("m{n}"), "redis", &spec(&server, &json!({"listName": format!("list{n}")})))).collect();
    let mut fixture = Fixture::new();
    fixture.sources.sync(&[app("search", json!(metrics)), app("find", json!([metrics[0]]))]);
    for n in 0..5 {
        cli(&server, &format!("RPUSH list{n} a")).await;
    }
    let mut missing: Vec<_> = (0..5).map(|n| ("search", format!("m{n}"))).chain([("find", "m0".to_owned())]).collect();
    while !missing.is_empty() {
        let found: Vec<_> =
            fixture.next().await.into_iter().filter(|update| update.reading.value.is_some_and(|(v, _)| is(1.0)(v))).collect();
        missing.retain(|(app, metric)| !found.iter().any(|u| u.app.name() == *app && *u.metric == **metric));
    }
    let clients = cli(&server, "CLIENT LIST TYPE normal").await + &cli(&server, "CLIENT LIST TYPE pubsub").await;
    assert_eq!(clients.matches(" resp=3").count(), 1, "{clients}");
}

#[tokio::test]
async fn a_change_is_read_at_once_where_the_server_tells_of_it() {
    let server = redis(&["--notify-keyspace-events", "KA"]);
    let fixture = of(&server, json!({"listName": "jobs", "pollMilliseconds": HOUR, "databaseIndex": 3}));
    fixture.until_value(is(0.0)).await;
    for expected in [1.0, 2.0, 3.0] {
        cli(&server, "-n 3 RPUSH jobs a").await;
        fixture.until_value(is(expected)).await;
    }
    cli(&server, "-n 3 DEL jobs").await;
    fixture.until_value(is(0.0)).await;
    // The end of the connection is news, too.
    cli(&server, "CONFIG SET notify-keyspace-events KA").await;
    cli(&server, "-n 3 RPUSH jobs a b c d e").await;
    fixture.until_value(is(5.0)).await;
    server.kill();
    fixture.until_failure("connection refused").await;
}

#[tokio::test]
async fn messages_of_a_channel_are_values() {
    let server = redis(&[]);
    let fixture = of(&server, json!({"channel": "load"}));
    let told = async |value: &str| while cli(&server, &format!("PUBLISH load {value}")).await == "0" {};
    told("7").await;
    fixture.until_value(is(7.0)).await;
    told("8.5").await;
    fixture.until_value(is(8.5)).await;
    told("many").await;
    assert_eq!(fixture.failure().await, "channel load: found \"many\"");
    server.kill();
    let reading = fixture.until(|reading| reading.failure.as_ref().is_some_and(|why| why.contains("connection refused"))).await;
    assert!(reading.value.is_some_and(|(value, _)| is(8.5)(value)), "the value was lost");
    server.start().unwrap();
    fixture.until_failure("nothing was published since the connection was opened anew").await;
    told("9").await;
    fixture.until_value(is(9.0)).await;
}

#[tokio::test]
async fn tls_with_an_authority_and_a_certificate_of_our_own() {
    let server = Server::new("redis").unwrap();
    let files = Authority::new().unwrap().write(server.directory(), &["server", "client"]).unwrap();
    let certificates = ["--tls-ca-cert-file", "ca.pem", "--tls-cert-file", "server.pem", "--tls-key-file", "server.key"];
    let options = [&["--port", "0", "--tls-port", "{port}"], &certificates[..]].concat();
    let server = start(server, &options);
    let over = |tls: Value| of(&server, json!({"listName": "jobs", "tls": tls}));
    certificates_count_on_both_sides(&files, &format!("redis {}", server.address()), over).await;
    let failure = over(json!({"ca": {"file": files.join("server.key")}})).failure().await;
    assert_eq!(failure, "tls.ca: there is no certificate in it");
    of(&server, json!({"listName": "jobs"})).failure().await;
}

#[tokio::test]
async fn sentinels_tell_which_server_is_the_master() {
    let (one, two, stopped) = (redis(&[]), redis(&[]), Server::new("redis").unwrap());
    cli(&one, "RPUSH jobs a").await;
    cli(&two, "RPUSH jobs a b").await;
    stopped.file("sentinel.conf", "").unwrap();
    let own = ["{directory}/sentinel.conf", "--sentinel", "--port", "{port}", "--bind", "127.0.0.1"];
    let sentinel = stopped.start("redis-server", arguments(&own)).unwrap();
    let with = json!({"listName": "jobs", "sentinel": {"master": "shop"}});
    let fixture = of(&sentinel, with);
    fixture.until_failure("master shop is not known there").await;
    cli(&sentinel, &format!("SENTINEL MONITOR shop 127.0.0.1 {} 1", one.port())).await;
    fixture.until_value(is(1.0)).await;
    cli(&sentinel, "SENTINEL REMOVE shop").await;
    cli(&sentinel, &format!("SENTINEL MONITOR shop 127.0.0.1 {} 1", two.port())).await;
    one.kill();
    fixture.until_value(is(2.0)).await;
}

/// A node of a Cluster.
fn node() -> (Server, u16) {
    let mut server = Server::new("redis").unwrap();
    let bus = server.another_port().unwrap();
    (start(server, &["--cluster-enabled", "yes", "--cluster-port", &bus.to_string()]), bus)
}

#[tokio::test]
async fn the_node_of_a_cluster_that_holds_the_key_is_asked() {
    let ((one, bus), (two, _)) = (node(), node());
    cli(&one, "CLUSTER ADDSLOTSRANGE 0 8191").await;
    cli(&two, "CLUSTER ADDSLOTSRANGE 8192 16383").await;
    cli(&two, &format!("CLUSTER MEET 127.0.0.1 {} {bus}", one.port())).await;
    for node in [&one, &two] {
        while !cli(node, "CLUSTER INFO").await.contains("cluster_state:ok") {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }
    // Slots 11957 and 5061.
    for (key, holder, other) in [("jobs{b}", &one, &two), ("jobs{a}", &two, &one)] {
        cli(holder, &format!("RPUSH {key} a b c")).await;
        let fixture = of(other, json!({"listName": key}));
        fixture.until_value(is(3.0)).await;
        cli(holder, &format!("LPOP {key}")).await;
        fixture.until_value(is(2.0)).await;
    }
}
