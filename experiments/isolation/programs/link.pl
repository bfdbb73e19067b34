# Plant a link: link symbolic|hard TARGET PATH
my ($kind, $target, $path) = @ARGV;
if ($kind eq "symbolic") { symlink($target, $path) or die $!; }
else { link($target, $path) or die $!; open(my $file, "<", $path) or die $!; print <$file>; }
