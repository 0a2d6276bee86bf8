#!/bin/sh
# Makes the certificates that the tests of TLS use: a server's, a client's, and a stranger's that
# another authority signed. For tests alone: their keys are public. Run it here; it needs openssl.
set -eu

authority() {
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 36500 \
        -subj "/CN=$2" -keyout "$1.key" -out "$1.pem"
}

signed() {
    openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes \
        -subj "/CN=$2" -addext "subjectAltName=$3" -keyout "$1.key" -out "$1.csr"
    openssl x509 -req -in "$1.csr" -CA "$4.pem" -CAkey "$4.key" -CAcreateserial -days 36500 \
        -copy_extensions copy -out "$1.pem"
    rm "$1.csr"
}

authority authority "Assay test authority"
signed server localhost "DNS:localhost,IP:127.0.0.1" authority
signed client robot-7 "DNS:robot-7" authority
authority other "Another test authority"
signed stranger stranger "DNS:stranger" other
openssl pkey -in server.key -aes256 -passout pass:secret -out server_with_passphrase.key
rm -f authority.key other.key other.pem authority.srl other.srl
