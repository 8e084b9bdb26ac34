//! Refuses to build anything optimised with the feature `test-support`, unless the build script was told
//! that a test build is meant (`CHATTO_TEST_BUILD=1`, as `make test-support` does). It stands alone so
//! that a test can compile it in a moment.

#[cfg(all(feature = "test-support", not(debug_assertions), not(chatto_test_build)))]
compile_error!(
    "the feature test-support opens every account to everybody: it never goes into a release build; \
     `make test-support` builds a server for tests"
);
