//! The recordings are the tests.

use {{crate}}::{{Type}};
use keyward_sdk::replay;

#[test]
fn recordings_replay() {
    replay::check_all::<{{Type}}>("recordings");
}

#[test]
fn the_descriptor_fits_its_schema() {
    replay::check_descriptor::<{{Type}}>();
}
