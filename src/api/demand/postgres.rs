//! A query of PostgreSQL.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Polling, Tls};
use crate::api::secret::SecretValue;

/// A number that a query of PostgreSQL yields.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.connection) != has(self.host)").message("name exactly one of connection and host"),
    validation = Rule::new("!has(self.host) || (has(self.userName) && has(self.dbName))")
        .message("host needs userName and dbName beside it"),
    validation = Rule::new(
        "!has(self.connection) || !(has(self.port) || has(self.userName) || has(self.dbName) || has(self.password) || has(self.sslmode))"
    )
    .message("connection says it all: port, userName, dbName, password and sslmode are for host"),
)]
pub struct Postgres {
    /// A query that yields one row of one column, which is a number, such as SELECT count(*) FROM jobs WHERE state = 'waiting'. It may
    /// only read.
    #[schemars(length(min = 1, max = 16_384))]
    pub query: String,
    /// A channel whose notifications say that the value may have changed: then the query is made at once (NOTIFY or pg_notify in a
    /// trigger). Between them it is polled all the same, so pollMilliseconds may be long. Not through a pooler that lends connections
    /// for single transactions, such as PgBouncer's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z_][a-z0-9_$]*$"))]
    pub listen: Option<String>,
    /// All about the connection in one, as a URL or as words: postgres://USER:PASSWORD@HOST/DATABASE, or host=HOST user=USER …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<SecretValue>,
    /// The server's host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[^/, \t\r\n]+$"))]
    pub host: Option<String>,
    /// Its port. Default: 5432.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65_535))]
    pub port: Option<i32>,
    /// Name of the user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub user_name: Option<String>,
    /// Its password. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<SecretValue>,
    /// The database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub db_name: Option<String>,
    /// Whether TLS is spoken. Default: require. In any case, the server's certificate is checked, unless tls.unsafeSsl.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sslmode: Option<SslMode>,
    #[serde(flatten)]
    pub polling: Polling,
    /// How TLS is spoken. Default: with the certificates that the system trusts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
}

/// Whether TLS is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum SslMode {
    Disable,
    /// If the server does.
    Prefer,
    Require,
}
