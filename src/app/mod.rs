//! Builds the parts from Config, runs them, stops them in order.
