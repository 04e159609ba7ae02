//! The node's own tables as a feed.
