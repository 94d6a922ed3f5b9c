# exits: 7
# Shell: pipelines, here-documents, functions, arithmetic, globbing, exit codes.
for shell in /bin/sh /bin/bash; do
  $shell <<'EOF'
echo pipelines: $(printf '%s\n' c a b | sort | tr '\n' ' ' | sed 's/ $//')
seq 1 1000 | grep 7 | wc -l
cat <<HERE | tr a-z A-Z
here document $((6 * 7))
HERE
i=0
while [ $i -lt 50 ]; do i=$((i + 1)); echo $i; done | awk '{s += $1} END {print s}'
f() { echo "f: $*"; return 3; }
f one two || echo "status $?"
(exit 9); echo $?
mkdir d; touch d/a d/b d/c; echo d/*
for x in $(ls d); do echo $x; done
echo redirected > out; cat < out; cat nothing 2> err || echo failed; wc -l < err
false | true; echo $?
{ echo grouped; echo twice; } | cat
x=${UNSET:-default}; echo $x ${#x}
case abc in a*) echo matched;; esac
echo "$(echo nested "$(echo deep)")"
test -d d && test ! -f d && echo tests
rm -r d out err
exec 3>file; echo to three >&3; exec 3>&-; cat file; rm file
/no/such/command 2>/dev/null; echo $?
touch noexec; ./noexec 2>/dev/null; echo $?; rm noexec
EOF
done
exit 7
