//! What several families of tests use.

pub(crate) mod builder;
pub(crate) mod damage;
pub(crate) mod far;
pub(crate) mod garden;
pub(crate) mod gate;
pub(crate) mod machine;
pub(crate) mod mount;
pub(crate) mod program;
pub(crate) mod repo;
pub(crate) mod repository;
pub(crate) mod tree;
