# `make verify` is what a change must pass before it is handed over; it edits nothing. `make fix` edits. The whole set of checks is .ci/run.
.PHONY: verify fix

verify:
	cargo fmt --all -- --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo test --workspace
	RUSTDOCFLAGS='-D warnings' cargo doc --no-deps --workspace

fix:
	cargo clippy --workspace --all-targets --fix --allow-dirty --allow-staged
	cargo fmt --all
