"""How cost grows: with what is stored, with connections, with TLS and a proxy."""
