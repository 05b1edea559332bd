#!/usr/bin/env bash
# Makes the certificates of the TLS examples: an authority, and one certificate each for host-a, host-b and localhost.
# For trying things out: the key of the authority lies beside the rest, unprotected.
#
# usage: examples/tls/make-certs.sh [FOLDER]      default: the folder of this script
#
# What is there and valid for another 60 days is kept. Needs openssl, 1.1.1 or newer.
set -euo pipefail
cd "${1:-$(dirname "$0")}"
umask 077

valid() { openssl x509 -in "$1" -noout -checkend $((60 * 86400)) >/dev/null 2>&1; }

if ! valid ca.pem || [ ! -f ca.key ]; then
  # A new authority signs everything anew.
  rm -f host-a.pem host-b.pem localhost.pem
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 -subj '/CN=Example authority' \
    -addext keyUsage=critical,keyCertSign,cRLSign -keyout ca.key -out ca.pem 2>/dev/null
fi

# issue NAME SUBJECT_ALT_NAMES: version 3, because of the extensions; a certificate without them is refused.
issue() {
  if valid "$1.pem" && [ -f "$1.key" ]; then return; fi
  openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$1" \
    -keyout "$1.key" -out "$1.csr" 2>/dev/null
  openssl x509 -req -in "$1.csr" -CA ca.pem -CAkey ca.key -CAcreateserial -days 365 -out "$1.pem" 2>/dev/null \
    -extfile <(printf '%s\n' 'basicConstraints=critical,CA:FALSE' 'extendedKeyUsage=serverAuth,clientAuth' \
      "subjectAltName=$2")
  rm "$1.csr"
}

issue host-a DNS:host-a.mesh.example
issue host-b DNS:host-b.mesh.example
issue localhost DNS:localhost,IP:127.0.0.1,IP:::1
echo "certificates are in $PWD"
