mod dialogs;
