//! The judgement, pure: no I/O, no clock, no randomness; the same inputs give the same bytes.
//!
//! `decide` looks at one pool as a whole, because priority among apps needs one decision over all of them:
//!
//! ```text
//!  readings ─► want ─► damp ─┐
//!                            ├─► allocate ─► place ─► Plan: starts, stops, and why
//!  agents, tasks ────────────┘   (floors, wants by priority, remainder)
//! ```
//!
//! | look for | in |
//! |---|---|
//! | what is looked at: [`World`](world::World) | [`world`] |
//! | what comes out: [`Plan`](plan::Plan) | [`plan`] |
//! | resource vectors | [`resources`] |

pub mod plan;
pub mod resources;
pub mod world;
