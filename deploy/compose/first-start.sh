#!/bin/sh
# Draws the keys of a new broker, once, and gives every further broker on the same database a copy of its folder.
#
#   zhifu-first-start ORIGIN STORE OPERATORS FOLDER [FOLDER ...]
#
# OPERATORS gets the keys of two operators: together they set quotas, either suspends a participant.
#
# A folder that has keys is left as it is: started again, this changes nothing.
set -eu
umask 077
origin=$1 store=$2 operators=$3 first=$4
shift 4
if [ ! -e "$first/broker.toml" ]; then
    zhifu broker init "$first" --origin "$origin" --store "$store" \
        --operator "$operators/a.key" --operator "$operators/b.key"
fi
for folder in "$@"; do
    if [ -e "$folder/broker.toml" ]; then continue; fi
    # Keys and settings: not what the first broker wrote since (ports.json), and not its pseudonym keys, which all of
    # them must read from one place.
    for name in log.key ca.key ca.crt tls.key tls.crt code.pepper; do cp -p "$first/$name" "$folder/$name"; done
    mkdir -p "$folder/gate"
    cp -p "$first"/gate/*.key "$folder/gate/"
    # Last: with it the folder is complete.
    cp -p "$first/broker.toml" "$folder/broker.toml"
done
