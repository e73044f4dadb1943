"""What a campaign needs of a site, made to work before the campaign does."""
