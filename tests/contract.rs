//! The golden file of the contract's methods. It is what a reviewer reads to see which calls a change adds.

use chatto::contract::{Method, listing};

const GOLDEN: &str = include_str!("golden/methods.txt");

#[test]
fn the_golden_file_names_every_method_once_and_in_order() {
    let listed: Vec<_> = GOLDEN.lines().map(|line| line.split(' ').next().unwrap()).collect();
    let declared: Vec<_> =
        Method::ALL.iter().map(|m| format!("{}/{}", m.service(), m.name())).collect();
    assert_eq!(listed, declared, "tests/golden/methods.txt and src/contract/proto disagree");
}

#[test]
fn every_method_is_served_or_unimplemented() {
    let is_served = |method: Method| {
        let line = format!("{}/{} served", method.service(), method.name());
        GOLDEN.lines().any(|golden| golden == line)
    };
    assert_eq!(listing(is_served), GOLDEN);
}
