#!/bin/sh
# Hold what the program says of some texts against what `wc` says. Usage: tests/run.sh PROGRAM
set -eu
for text in tests/words.txt /dev/null "$0"; do
    said=$("$1" "$text")
    wanted=$(wc -lwc <"$text" | awk '{ print $1 " lines, " $2 " words, " $3 " bytes" }')
    echo "$text: $said"
    if [ "$said" != "$wanted" ]; then
        echo "wc says: $wanted" >&2
        exit 1
    fi
done
