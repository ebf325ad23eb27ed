//! Connection strings of Azure Storage, and the signatures that they allow to make.

use std::collections::HashMap;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Url;
use ring::hmac;

/// What is wrong with a connection string. Nothing of it is told, as it is a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectionError {
    #[error("it has neither AccountKey nor SharedAccessSignature")]
    NoCredentials,
    #[error("it has no AccountName")]
    NoAccount,
    #[error("AccountKey is not in base64")]
    Key,
    #[error("QueueEndpoint is not an address of http or https")]
    Endpoint,
}

/// Where the queues of an account are, and what opens them.
pub struct Connection {
    /// Without a slash at its end.
    endpoint: Url,
    access: Access,
}

enum Access {
    Key { account: String, key: hmac::Key },
    Signature(String),
}

/// <https://learn.microsoft.com/azure/storage/common/storage-configure-connection-string>
impl FromStr for Connection {
    type Err = ConnectionError;

    fn from_str(text: &str) -> Result<Self, ConnectionError> {
        let parts: HashMap<&str, &str> = text.split(';').filter_map(|part| part.trim().split_once('=')).collect();
        let account = parts.get("AccountName").copied().ok_or(ConnectionError::NoAccount);
        let endpoint = if let Some(endpoint) = parts.get("QueueEndpoint") {
            (*endpoint).to_owned()
        } else {
            let protocol = parts.get("DefaultEndpointsProtocol").unwrap_or(&"https");
            let suffix = parts.get("EndpointSuffix").unwrap_or(&"core.windows.net");
            format!("{protocol}://{}.queue.{suffix}", account?)
        };
        let access = match (parts.get("SharedAccessSignature"), parts.get("AccountKey")) {
            (Some(signature), _) => Access::Signature(signature.trim_start_matches('?').to_owned()),
            (None, Some(key)) => {
                let key = STANDARD.decode(key).map_err(|_| ConnectionError::Key)?;
                Access::Key { account: account?.to_owned(), key: hmac::Key::new(hmac::HMAC_SHA256, &key) }
            }
            (None, None) => return Err(ConnectionError::NoCredentials),
        };
        Ok(Self { endpoint: endpoint_url(&endpoint)?, access })
    }
}

fn endpoint_url(endpoint: &str) -> Result<Url, ConnectionError> {
    let mut url = Url::parse(endpoint.trim_end_matches('/')).map_err(|_| ConnectionError::Endpoint)?;
    url.set_query(None);
    url.set_fragment(None);
    if ["http", "https"].contains(&url.scheme()) { Ok(url) } else { Err(ConnectionError::Endpoint) }
}

impl Connection {
    /// The address of what is at this path.
    #[must_use]
    pub fn url(&self, path: &str) -> Url {
        let mut url = self.endpoint.clone();
        url.set_path(&format!("{}/{path}", self.endpoint.path().trim_end_matches('/')));
        url
    }

    /// The address of a GET of this path with these parameters, and its header `Authorization` if it needs one. Parameters and headers
    /// have to be in the order of their names.
    #[must_use]
    pub fn sign(&self, path: &str, parameters: &[(&str, &str)], headers: [(&str, &str); 2]) -> (Url, Option<String>) {
        let mut url = self.url(path);
        url.query_pairs_mut().extend_pairs(parameters);
        match &self.access {
            Access::Key { account, key } => {
                // The verb, eleven headers that are not there, those that are, and what is asked for.
                let headers: String = headers.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
                let parameters: String = parameters.iter().map(|(name, value)| format!("\n{name}:{value}")).collect();
                let signed = format!("GET{}{headers}/{account}{}{parameters}", "\n".repeat(12), url.path());
                let signature = STANDARD.encode(hmac::sign(key, signed.as_bytes()));
                (url, Some(format!("SharedKey {account}:{signature}")))
            }
            Access::Signature(signature) => {
                let query = format!("{}&{signature}", url.query().unwrap_or_default());
                url.set_query(Some(&query));
                (url, None)
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const HEADERS: [(&str, &str); 2] = [("x-ms-date", "Thu, 26 Nov 2026 00:00:00 GMT"), ("x-ms-version", "2021-12-02")];

    fn read(text: &str) -> Result<Connection, ConnectionError> {
        text.parse()
    }

    #[test]
    fn the_address_comes_from_the_account_or_is_given() {
        let url = |text: &str| read(text).unwrap().url("orders").to_string();
        assert_eq!(url("AccountName=shop;AccountKey=a2V5"), "https://shop.queue.core.windows.net/orders");
        let china = "DefaultEndpointsProtocol=http;AccountName=shop;AccountKey=a2V5;EndpointSuffix=core.chinacloudapi.cn;";
        assert_eq!(url(china), "http://shop.queue.core.chinacloudapi.cn/orders");
        let local = "AccountName=shop;AccountKey=a2V5;QueueEndpoint=http://127.0.0.1:10001/shop/";
        assert_eq!(url(local), "http://127.0.0.1:10001/shop/orders");
    }

    #[test]
    fn what_is_wrong_is_told_without_the_secret() {
        for (text, expected) in [
            ("", ConnectionError::NoAccount),
            ("AccountName=shop", ConnectionError::NoCredentials),
            ("AccountName=shop;AccountKey=*", ConnectionError::Key),
            ("AccountKey=a2V5;QueueEndpoint=https://shop.example", ConnectionError::NoAccount),
            ("SharedAccessSignature=sv=1&sig=x;QueueEndpoint=shop.example", ConnectionError::Endpoint),
            ("SharedAccessSignature=sv=1&sig=x;QueueEndpoint=ftp://shop.example", ConnectionError::Endpoint),
        ] {
            assert_eq!(read(text).err(), Some(expected), "{text}");
        }
    }

    #[test]
    fn a_signature_that_is_given_becomes_part_of_the_address() {
        let connection = read("QueueEndpoint=https://shop.example;SharedAccessSignature=?sv=2021-12-02&sig=a%2Bb%3D").unwrap();
        let (url, authorization) = connection.sign("orders", &[("comp", "metadata")], HEADERS);
        assert_eq!(url.as_str(), "https://shop.example/orders?comp=metadata&sv=2021-12-02&sig=a%2Bb%3D");
        assert_eq!(authorization, None);
    }

    #[test]
    fn a_key_signs_what_is_asked_for() {
        let connection = read("AccountName=shop;AccountKey=a2V5").unwrap();
        let signed = |path: &str| connection.sign(path, &[("comp", "metadata")], HEADERS).1.unwrap();
        assert!(signed("orders").starts_with("SharedKey shop:"));
        assert_ne!(signed("orders"), signed("returns"));
    }
}
