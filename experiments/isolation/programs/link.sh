# Plant a link: link symbolic|hard TARGET PATH
case $1 in symbolic) ln -s "$2" "$3" ;; hard) ln "$2" "$3" && cat "$3" ;; esac
