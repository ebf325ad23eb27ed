//! What the operator tells a real API server: statuses, events and finalizers. Engines are stood in for by reports made by hand.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod deletions;
mod events;
mod fixture;
mod outages;
mod statuses;
