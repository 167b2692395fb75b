#!/bin/sh
# Hold what the program says of some texts against what `wc` says, and report it as JUnit XML.
# Usage: tests/run.sh PROGRAM [REPORT]
set -eu
report=${2:-/dev/null}
code=0
echo '<testsuite name="tally">' >"$report"
for text in tests/words.txt /dev/null "$0"; do
    said=$("$1" "$text")
    wanted=$(wc -lwc <"$text" | awk '{ print $1 " lines, " $2 " words, " $3 " bytes" }')
    echo "$text: $said"
    if [ "$said" = "$wanted" ]; then
        echo "<testcase name=\"$text\"/>" >>"$report"
    else
        echo "wc says: $wanted" >&2
        echo "<testcase name=\"$text\"><failure message=\"wc says: $wanted\"/></testcase>" >>"$report"
        code=1
    fi
done
echo '</testsuite>' >>"$report"
exit $code
