#!/bin/sh
# Prints the secrets of a fleet, made anew: tokens, the password of Redis, and one certificate for all
# of it, of a CA whose key is not kept. `./make-secrets.sh [NAMESPACE] | kubectl create -f -`; with
# `create`, a second time changes nothing under the feet of a fleet that runs.
set -eu
namespace=${1:-simclr}
days=${DAYS:-365}
scratch=$(mktemp -d)
trap 'rm -r "$scratch"' EXIT
umask 077

new() { openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes "$@" 2>/dev/null; }
new -x509 -days "$days" -subj /CN=simclr-ca -keyout "$scratch/ca.key" -out "$scratch/ca.pem"
new -subj /CN=simclr -addext subjectAltName=DNS:simclr.internal \
  -keyout "$scratch/tls.key" -out "$scratch/tls.csr"
openssl x509 -req -in "$scratch/tls.csr" -CA "$scratch/ca.pem" -CAkey "$scratch/ca.key" \
  -copy_extensions copy -days "$days" -out "$scratch/tls.pem" 2>/dev/null

base64_of() { base64 <"$1" | tr -d '\n'; }
cat <<END
apiVersion: v1
kind: Secret
metadata:
  name: simclr-secrets
  namespace: $namespace
  labels: { app.kubernetes.io/part-of: simclr-fleet }
type: Opaque
stringData:
  join-token: "$(openssl rand -hex 16)"
  operator-token: "$(openssl rand -hex 16)"
  redis-password: "$(openssl rand -hex 16)"
---
apiVersion: v1
kind: Secret
metadata:
  name: simclr-tls
  namespace: $namespace
  labels: { app.kubernetes.io/part-of: simclr-fleet }
type: kubernetes.io/tls
data:
  tls.crt: $(base64_of "$scratch/tls.pem")
  tls.key: $(base64_of "$scratch/tls.key")
  ca.crt: $(base64_of "$scratch/ca.pem")
END
