//! The metrics as a scraper sees them.

use std::time::Duration;

use microscaler::api::validated::Key;
use microscaler::backend::End;

use super::fixture::Fixture;

/// `name{label="value",…} number`, without exemplars or timestamps, which are not used here.
fn is_sample(line: &str) -> bool {
    let Some((series, value)) = line.rsplit_once(' ') else { return false };
    let is_name = |name: &str| name.starts_with("microscaler_") && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    let labels = match series.split_once('{') {
        None => return is_name(series) && value.parse::<f64>().is_ok(),
        Some((name, labels)) if is_name(name) => labels,
        Some(_) => return false,
    };
    let well_formed = |label: &str| {
        label.split_once('=').is_some_and(|(_, text)| text.len() >= 2 && text.starts_with('"') && text.ends_with('"'))
    };
    labels.strip_suffix('}').is_some_and(|labels| labels.split(',').all(well_formed)) && value.parse::<f64>().is_ok()
}

#[tokio::test]
async fn metrics_are_well_formed_and_complete() {
    let fixture = Fixture::new(None).await;
    let metrics = &fixture.state.metrics;
    let search = Key::new("shop", "search");
    metrics.decision(Duration::from_micros(300));
    metrics.reaction(Duration::from_millis(2));
    metrics.convergence(&search, Duration::from_millis(80));
    metrics.calls("ACCEPT", 1);
    metrics.ending(End::Killed);
    metrics.lease_renewed();
    metrics.lease_not_renewed();
    fixture.push("shop/search/waiting", "1").await;
    fixture.push("shop/search/waiting", "x").await;
    let response = fixture.get("/metrics").await;
    assert_eq!(response.headers()["content-type"], "application/openmetrics-text; version=1.0.0; charset=utf-8");
    let text = response.text().await.unwrap();
    assert!(text.ends_with("# EOF\n"));
    for line in text.lines() {
        assert!(line == "# EOF" || line.starts_with("# HELP ") || line.starts_with("# TYPE ") || is_sample(line), "{line}");
    }
    for line in [
        r#"microscaler_decision_seconds_bucket{le="0.0005"} 1"#,
        "microscaler_decisions_total 1",
        "microscaler_reaction_seconds_count 1",
        r#"microscaler_convergence_seconds_count{namespace="shop",app="search"} 1"#,
        r#"microscaler_calls_total{type="ACCEPT"} 1"#,
        r#"microscaler_endings_total{how="Killed"} 1"#,
        r#"microscaler_demand_posts_total{source="push"} 1"#,
        r#"microscaler_demand_posts_total{source="simulated"} 1"#,
        "microscaler_push_errors_total 1",
        "microscaler_leader 1",
        "microscaler_lease_renewals_total 1",
        "microscaler_lease_renewal_failures_total 1",
        r#"microscaler_app_replicas{namespace="shop",app="search",state="wanted"} 5"#,
        r#"microscaler_app_demand{namespace="shop",app="search",metric="waiting"} 42.5"#,
        r#"microscaler_app_demand_age_seconds{namespace="shop",app="search",metric="waiting"} 1.5"#,
        r#"microscaler_app_phase{namespace="shop",app="search",phase="Growing"} 1"#,
        r#"microscaler_app_phase{namespace="shop",app="search",phase="Failed"} 0"#,
        r#"microscaler_pool_connected{namespace="shop",pool="main"} 1"#,
        r#"microscaler_pool_agents{namespace="shop",pool="main"} 3"#,
        r#"microscaler_pool_tasks{namespace="shop",pool="main"} 7"#,
        concat!("microscaler_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
    }
    metrics.forget(&search);
    assert!(!metrics.text().contains("convergence_seconds_count"));
}

/// Sums over all replicas would count it twice, and minima would find every pool disconnected.
#[tokio::test]
async fn a_replica_that_stands_by_has_nothing_to_say_of_apps_and_pools() {
    let fixture = Fixture::new(None).await;
    let told =
        async |start: &str| fixture.get("/metrics").await.text().await.unwrap().contains(&format!("\nmicroscaler_{start}"));
    for leads in [true, false, true] {
        fixture.state.metrics.leads(leads);
        assert!(told(&format!("leader {}\n", u8::from(leads))).await);
        assert_eq!((told("app_").await, told("pool_").await), (leads, leads));
        assert!(told("demand_posts_total{").await && told("build_info{").await);
    }
}
