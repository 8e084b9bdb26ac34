//! Generated message types of the public client API, their JSON form and value rules.
