#!/bin/sh
# Every command once, as an operator types it. Usage: every_command.sh STATUS ADMIN [OPTION...]
# STATUS and ADMIN are the two programs, each with its port; the OPTIONs go to both. $TEST_VM is a VM of
# the cloud `mouse`; once it was shut down, $SETTLE is run, which may wait until it is gone.

cloud=mouse
vm=${TEST_VM:-testvm}
user=testuser
status=$1
admin=$2
shift 2

try() {
    printf '$ %s\n' "$*"
    case $1 in
        cloud_status) shift; $status "$@" 2>&1 ;;
        cloud_admin) shift; $admin "$@" 2>&1 ;;
    esac
    printf '[%s]\n' $?
}

try cloud_status "$@"
try cloud_status -a "$@"
try cloud_status -a -j "$@"
try cloud_status -b "$@"
try cloud_status -c $cloud "$@"
try cloud_status -c $cloud -j "$@"
try cloud_status -c $cloud -n $vm "$@"
try cloud_status -c $cloud -n $vm -j "$@"
try cloud_status -d "$@"
try cloud_status -g "$@"
try cloud_status -i "$@"
try cloud_status -l "$@"
try cloud_status -m "$@"
try cloud_status -o "$@"
try cloud_status -o -c $cloud "$@"
try cloud_status -q all "$@"
try cloud_status -q complete "$@"
try cloud_status -q held "$@"
try cloud_status -q high "$@"
try cloud_status -q idle "$@"
try cloud_status -q new "$@"
try cloud_status -q running "$@"
try cloud_status -q sched "$@"
try cloud_status -r "$@"
try cloud_status -t "$@"
try cloud_status -u "$@"
try cloud_status -u -c $cloud "$@"
try cloud_status -v "$@"
try cloud_status -w "$@"
try cloud_status -x "$@"
try cloud_status -z "$@"
try cloud_admin "$@"
try cloud_admin -i "$@"
try cloud_admin -j "$@"
try cloud_admin -k -c $cloud -n $vm "$@"
${SETTLE:-:}
try cloud_admin -k -c $cloud -a "$@"
try cloud_admin -k -c $cloud -b 1 "$@"
try cloud_admin -l DEBUG "$@"
try cloud_admin -m -c $cloud -n $vm "$@"
try cloud_admin -m -c $cloud -a "$@"
try cloud_admin -o -c $cloud -n $vm "$@"
try cloud_admin -o -c $cloud -a "$@"
try cloud_admin -o -c $cloud -b 1 "$@"
try cloud_admin -q "$@"
try cloud_admin -r "$@"
try cloud_admin -t "$@"
try cloud_admin -u $user -p job "$@"
try cloud_admin -u $user -p vm "$@"
try cloud_admin -v 5 -c $cloud "$@"
try cloud_admin -y "$@"
try cloud_admin -x -c $cloud -n $vm "$@"
try cloud_admin -d $cloud "$@"
try cloud_admin -e $cloud "$@"
