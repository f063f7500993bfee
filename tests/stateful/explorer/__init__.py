"""An exhaustive explorer of the blob store: uploads, leases, deletes and online collection, in every order.

`docs/gc-proof.md` argues that the store is safe, lemma by lemma. This package checks the argument by brute force:
it holds the algorithm in miniature (a few clients, digests and keys), takes every step that could be next from every
state that can be reached, and compares each state and each step with the invariants.

    names        what a repository can hold, as sets of bits
    state        what database and disk hold, and where each client stands
    rules        what the store decides inside its transactions
    uploads      a request that brings a blob's bytes
    clients      everything else that a client can ask for
    collector    mark and sweep, the reaper, the sweep of nameless files
    backups      a hold on the trash, a copy of the catalog, the files that it names
    rot          a disk that loses bits, and the scrub
    accidents    what goes wrong: expiry, crashes, impatience, power cuts
    invariants   what must be true all the same
    search       breadth first, so the first trace that breaks a rule is a shortest one
    scenarios    who does what: each must hold
    mutants      the store with one deliberate mistake: each must be caught
"""
